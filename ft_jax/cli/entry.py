"""The frame around every command: flags in, one line out where the user can mend it.

`run(main)` reads the flags, calls `main(arguments)` and turns what a user can cause into

    ft_jax: CULPRIT: what is wrong; what was expected

on stderr with exit code 2 and no traceback. A traceback means a fault of this program. Libraries
are kept from writing to stderr by themselves.

Tests: tests/cli/entry_test.py.
"""

import logging
import os
import pathlib
import re
import sys
import textwrap
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import flags

from ft_jax.errors import UsageError

USAGE_EXIT, INTERRUPTED_EXIT = 2, 130
ROOT = pathlib.Path(__file__).resolve().parents[2]  # beside the package lie the config files
_DEFAULTS: dict[str, str] = {}  # config flag -> its default file
_NO_SUCH_KEY = re.compile(r"""^["'\\]*(?P<key>[\w.]+)""")
_DID_YOU_MEAN = re.compile(r'Did you mean "(?P<key>[\w.]+)"')


def run(main: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and leaves the process.

    Args:
      main: Gets what stands on the command line besides flags; returns the exit code, None = 0.
        The docstring of its module is the head of the help text.
      argv: Program and arguments; default: the process's.
    """
    quiet()
    argv = list(sys.argv if argv is None else argv)
    module = sys.modules[main.__module__]
    if {"--help", "-h", "-help", "--helpfull"} & set(argv[1:]):
        sys.stdout.write(help_text(module))
        sys.exit(0)
    try:
        code = main(parse(argv))
        sys.stdout.flush()
        sys.exit(code or 0)
    except UsageError as error:
        _leave(str(error), USAGE_EXIT)
    except BrokenPipeError:  # the reader of our output has seen enough (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.strerror is None:
            raise
        _leave(f"{error.filename or 'system'}: {error.strerror}", USAGE_EXIT)
    except KeyboardInterrupt:
        _leave("interrupted", INTERRUPTED_EXIT)


def define_config(default: str, name: str = "config") -> Any:
    """Defines the flag of a config file, to be called where a command defines its flags.

    ml_collections reads a default file as soon as the flag is defined, and what goes wrong with it
    ends in a traceback before `main`. So the default is put in when the flags are parsed.

    Args:
      default: Path from the top of the project, such as "configs/sample.py".
      name: Of the flag.

    Returns:
      A holder whose `.value` is the ConfigDict, once flags are parsed.
    """
    from ml_collections import config_flags

    _DEFAULTS[name] = default
    return config_flags.DEFINE_config_file(name, None, f"Config file (default: {default}).")


def quiet() -> None:
    """Keeps libraries from writing to stderr; must run before they are imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA's own logger
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    for name in ("jax", "absl", "transformers", "orbax"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not sys.warnoptions:  # python -W brings them back
        warnings.simplefilter("ignore")


def parse(argv: Sequence[str]) -> list[str]:
    """Reads all flags, config files included, and returns the other arguments.

    Raises:
      UsageError: A flag or config key is unknown, or has a value that it cannot have.
    """
    values = flags.FLAGS
    argv = _with_config_files(argv)
    try:
        rest = values(argv)
        for name in _DEFAULTS:  # a config that failed to load says so when it is looked at
            config: Any = values[name].value
            _ = config.items
    except flags.UnrecognizedFlagError as error:
        hint = re.search(r"Did you mean: (.*?) \?", str(error))
        advice = f"did you mean --{hint[1]}?" if hint else "see --help"
        raise UsageError(f"--{error.flagname}: no such flag; {advice}") from None
    except flags.Error as error:
        raise UsageError(_plain(str(error))) from None
    except (AttributeError, KeyError) as error:
        raise _unknown_key(error, argv) from None
    except (OSError, SyntaxError, ValueError, TypeError, ImportError) as error:
        raise _unreadable_config(error, argv) from None
    if "out" in values and "://" in str(values["out"].value):
        raise UsageError(f"--out={values['out'].value}: a URL; expected a name on this machine")
    return rest[1:]


def need(name: str, expected: str) -> Any:
    """The value of flag `name`.

    Raises:
      UsageError: It was not given.
    """
    value = flags.FLAGS[name].value
    if value is None:
        raise UsageError(f"--{name}: not given; expected {expected}")
    return value


def help_text(module: types.ModuleType) -> str:
    """The module's docstring, its flags, and the keys of its config files."""
    lines = [textwrap.dedent(module.__doc__ or "").strip(), "", "Flags:"]
    values = flags.FLAGS
    for flag in values.get_key_flags_for_module(module):
        default = "" if flag.default in (None, False) else f" (default: {flag.default})"
        body = textwrap.wrap(f"{flag.help}{default}", 76)
        lines += [f"  --{flag.name:<14}  {body[0]}", *(" " * 20 + line for line in body[1:])]
    for name, default in _DEFAULTS.items():
        parse([module.__name__])
        lines += ["", f"Settings of {default}, each as --{name}.KEY=VALUE:"]
        lines += _settings(values[name].value, f"--{name}")
    return "\n".join(lines) + "\n"


def _settings(config: Any, prefix: str) -> list[str]:
    lines = []
    for key, value in config.items():
        is_group = hasattr(value, "items")
        lines += _settings(value, f"{prefix}.{key}") if is_group else [f"  {prefix}.{key}={value}"]
    return lines


def _with_config_files(argv: Sequence[str]) -> list[str]:
    """Puts in default config files, and finds those of the project from any working directory."""
    argv = list(argv)
    for name, default in _DEFAULTS.items():
        pattern = re.compile(rf"--?{name}(=.*)?$")
        places = [index for index, arg in enumerate(argv) if pattern.match(arg)]
        if not places:
            argv.insert(1, f"--{name}={default}")
            places = [1]
        for index in places:
            flag, equals, path = argv[index].partition("=")
            if equals:
                argv[index] = f"{flag}={_find(path)}"
            elif index + 1 < len(argv):
                argv[index + 1] = _find(argv[index + 1])
    return argv


def _find(config: str) -> str:
    """PATH or PATH:ARGUMENT, made absolute."""
    path, colon, argument = config.partition(":")
    tried = (pathlib.Path(path), ROOT / path)
    found = next((place for place in tried if place.is_file()), None)
    if found is None:
        raise UsageError(f"{path or '--config'}: no such config file; expected a path (.py)")
    return f"{found.resolve()}{colon}{argument}"


def _plain(message: str) -> str:
    """What absl says about a value, in the words of this program."""
    message = re.sub(r"^flag ", "", message)
    if "Traceback" in message:  # what a config file raised: its last line says it
        culprit, last = message.split(": ", 1)[0], message.strip().splitlines()[-1]
        return f"{culprit}: {re.sub(r'^[A-Za-z]+: ', '', last)}"
    message = re.sub(r"invalid literal for int\(\).*", "not a whole number; expected one", message)
    return re.sub(r"could not convert string to float.*", "not a number; expected one", message)


def _unknown_key(error: Exception, argv: Sequence[str]) -> UsageError:
    """Finds the argument that named a key which the config does not have."""
    text = str(error.args[0]) if error.args else str(error)
    found, hint = _NO_SUCH_KEY.match(text), _DID_YOU_MEAN.search(text)
    key = found["key"] if found else text
    named = (arg.partition("=")[0] for arg in argv if re.search(rf"\.{re.escape(key)}\b", arg))
    below = re.search(r"Attempting to lookup: ([\w.]+)", text)  # a key below a plain value
    culprit = f"--config.{below[1]}" if below else next(named, key)
    expected = f"did you mean {hint['key']!r}?" if hint else "--help lists the settings"
    return UsageError(f"{culprit}: no such setting; {expected}")


def _unreadable_config(error: Exception, argv: Sequence[str]) -> UsageError:
    names = "|".join(map(re.escape, _DEFAULTS))
    named = [arg.partition("=")[2] for arg in argv if re.match(rf"--?({names})=", arg)]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = lines[-1] if lines else type(error).__name__
    culprit = named[0] if named else "config"
    return UsageError(f"{culprit}: cannot be used ({reason}); expected a config file (.py)")


def _leave(message: str, code: int) -> NoReturn:
    print("ft_jax: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(code)
