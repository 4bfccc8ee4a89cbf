"""The rules of the house, read from the sources: nothing is imported or run.

Each rule collects everything that breaks it and says where, so one run is enough to mend them all.
"""

import ast
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sources import (
    ROOT,
    Source,
    assigned,
    classes,
    dotted,
    functions,
    imports,
    sources,
    strings_of,
    tracked,
)

PROGRAM = ("ft_jax", "data_pipeline", "configs")  # what is installed
SCRIPTS = ("examples", "benchmarks")
LINES_OF_A_FILE, LINES_OF_A_FUNCTION, ARGUMENTS = 500, 60, 8
LONG_FUNCTIONS = {("ft_jax/training/loop.py", "train"): 150}  # the loop is read top to bottom

# A folder or file of ft_jax may import what stands on a lower line, nothing beside or above it.
ORDER = (
    {"typing", "errors"},
    {"lazy"},
    {"sharding", "kernels", "diffusion", "media"},
    {"nn"},
    {"models"},
    {"checkpoints", "convert", "config"},
    {"sampling"},
    {"training", "eval"},
    {"plan"},
    {"cli"},
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
FOR_DATA = {"typing", "errors", "media", "models", "checkpoints", "config"}
STANDARD = frozenset(sys.stdlib_module_names)
# A PyTorch program of its own that lies among our files, as it is copied into every export.
TORCH_PROGRAM = "ft_jax/convert/torch_addon/fantasytalking_diffusers.py"
HEAVY = {
    "torch",
    "diffusers",
    "onnx",
    "librosa",
    "av",
    "cv2",
    "tensorflow_datasets",
    "grain",
    "espeakng_loader",
}


def report(broken: list[str]) -> None:
    if broken:
        pytest.fail("\n".join(sorted(broken)), pytrace=False)


def test_imports_of_the_package_point_downwards():
    broken = []
    for source in sources("ft_jax"):
        for used in imports(source):
            if used.package == "data_pipeline" and source.home != "cli":
                broken.append(f"{source.path}:{used.line} imports data_pipeline; only cli may")
            if used.package in ("configs", "tests", *SCRIPTS):
                broken.append(f"{source.path}:{used.line} imports {used.package}")
            if used.package != "ft_jax" or source.home == "__init__":
                continue
            other = used.module.split(".")[1]
            if other != source.home and RANK[other] >= RANK[source.home]:
                broken.append(f"{source.path}:{used.line} imports {other}, which is not below it")
    report(broken)


def test_every_folder_of_the_package_has_a_place_in_the_order():
    report([s.path for s in sources("ft_jax") if s.home not in {*RANK, "__init__"}])


def test_the_data_pipeline_imports_only_what_it_may():
    broken = []
    for source in sources("data_pipeline"):
        for used in imports(source):
            if used.package in ("tests", *SCRIPTS):
                broken.append(f"{source.path}:{used.line} imports {used.package}")
            if used.package == "ft_jax" and used.module.split(".")[1] not in FOR_DATA:
                broken.append(f"{source.path}:{used.line} imports {used.module}")
            if used.package in ("jax", "flax") and used.top:
                broken.append(f"{source.path}:{used.line} imports {used.package} in every worker")
    report(broken)


def test_configs_are_data():
    allowed = ("configs", "ml_collections")
    report(
        [
            f"{source.path}:{used.line} imports {used.module}"
            for source in sources("configs")
            for used in imports(source)
            if used.package not in allowed
        ]
    )


def test_linen_stays_in_nn_models_and_sharding():
    report(
        [
            f"{source.path}:{used.line} imports {used.module}"
            for source in sources(*PROGRAM, *SCRIPTS)
            for used in imports(source)
            if used.module.startswith(("flax.linen", "flax.nnx"))
            and not source.path.startswith(("ft_jax/nn", "ft_jax/models", "ft_jax/sharding"))
        ]
    )


def test_config_dicts_stop_at_the_command_line():
    report(
        [
            f"{source.path}:{used.line} imports {used.module}"
            for source in sources("ft_jax", "data_pipeline")
            for used in imports(source)
            if used.package == "ml_collections" and source.home != "cli"
        ]
    )


def test_flags_and_process_settings_are_the_command_lines():
    process = {"os.environ", "os.putenv", "jax.config.update", "config.update"}
    broken = []
    for source in sources("ft_jax", "data_pipeline"):
        if source.home == "cli":
            continue
        broken += [
            f"{source.path}:{used.line} imports {used.module}"
            for used in imports(source)
            if used.module.startswith(("absl.flags", "absl.app")) or used.module == "absl"
        ]
        broken += [
            f"{source.path}:{node.lineno} uses {dotted(node)}"
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Attribute) and dotted(node) in process
        ]
    report(broken)


def test_torch_stays_in_parity_convert_and_benchmarks():
    allowed = ("tests/", "benchmarks/", "ft_jax/convert/", "ft_jax/cli/convert.py")
    report(
        [
            f"{source.path}:{used.line} imports {used.module}"
            for source in sources(*PROGRAM, *SCRIPTS)
            for used in imports(source)
            if used.package in ("torch", "diffusers") and not source.path.startswith(allowed)
        ]
    )


def test_the_torch_program_stands_alone():
    allowed = {"torch", "diffusers", "safetensors", *STANDARD}
    report(
        [
            f"{source.path}:{used.line} imports {used.module}"
            for source in sources("ft_jax")
            if source.path == TORCH_PROGRAM
            for used in imports(source)
            if used.package not in allowed
        ]
    )
    assert (ROOT / TORCH_PROGRAM).is_file()


def test_heavy_libraries_load_when_they_are_used():
    """Whoever imports the torch program imports torch."""
    program = TORCH_PROGRAM.removesuffix(".py").replace("/", ".")
    report(
        [
            f"{source.path}:{used.line} imports {used.module} at the top"
            for source in sources("ft_jax", "data_pipeline", "configs")
            if source.path != TORCH_PROGRAM and not is_tfds_builder(source)
            for used in imports(source)
            if used.top and (used.package in HEAVY or used.module.startswith(program))
        ]
    )


def is_tfds_builder(source: Source) -> bool:
    """Its base class is needed where the class statement stands."""
    return any("GeneratorBasedBuilder" in dotted(b) for c in classes(source.tree) for b in c.bases)


def test_files_functions_and_argument_lists_are_short():
    broken = []
    for source in sources(*PROGRAM, *SCRIPTS, "tests"):
        if (lines := source.text.count("\n")) > LINES_OF_A_FILE:
            broken.append(f"{source.path}: {lines} lines; at most {LINES_OF_A_FILE}")
        for function in functions(source.tree):
            where = f"{source.path}:{function.lineno} {function.name}"
            limit = LONG_FUNCTIONS.get((source.path, function.name), LINES_OF_A_FUNCTION)
            if (lines := code_lines(function)) > limit:
                broken.append(f"{where}: {lines} lines; at most {limit}")
            if (count := arguments(function)) > ARGUMENTS:
                broken.append(f"{where}: {count} arguments; at most {ARGUMENTS}")
    report(broken)


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, less the docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or docstring.lineno) - docstring.lineno + 1
    return lines


def arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    listed = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return sum(argument.arg not in ("self", "cls") for argument in listed)


def test_names_say_what_a_thing_is():
    vague = re.compile(r"^(utils?|common|misc|helpers?|tools?)$|^(new|my|base)_|_v\d+$|_(new|old)$")
    broken = []
    for path in tracked():
        names = [part.removesuffix(".py") for part in Path(path).parts]
        if path.endswith(".py") and path != "configs/base.py" and any(map(vague.search, names)):
            if not (len(names) == 2 and names[0] == "configs"):  # configs/base_i2v.py: the stage
                broken.append(path)
    report(broken)


def test_every_package_folder_has_an_init_with_a_docstring():
    broken = []
    for folder in {(ROOT / source.path).parent for source in sources(*PROGRAM)}:
        init = folder / "__init__.py"
        if not init.exists() or not ast.get_docstring(ast.parse(init.read_text())):
            broken.append(f"{init.relative_to(ROOT)}: missing, or does not say what the folder is")
    report(broken)


def test_every_module_has_a_docstring():
    report(
        [
            source.path
            for source in sources(*PROGRAM, *SCRIPTS)
            if not ast.get_docstring(source.tree)
        ]
    )


def test_every_test_that_is_named_exists():
    names = {path.name for path in (ROOT / "tests").rglob("*_test.py")}
    broken = []
    for source in sources(*PROGRAM, *SCRIPTS):
        text = ast.get_docstring(source.tree) or ""
        broken += [
            f"{source.path} names {path}"
            for path in re.findall(r"[\w/]*_test\.py", text)
            if not ((ROOT / path).exists() if "/" in path else path in names)
        ]
    report(broken)


def logical_axes() -> set[str]:
    listed: set[str] = set()
    for name in ("PARAMETER_AXES", "ACTIVATION_AXES"):
        listed |= set(ast.literal_eval(assigned("ft_jax/sharding/axes.py", name)))
    return listed


def named_axes(source: Source) -> Iterator[tuple[int, str]]:
    """Every logical axis that the file names: axes=..., constrain(...), partitioning boxes."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.keyword) and node.arg in ("axes", "kernel_axes"):
            yield from ((node.value.lineno, name) for name in strings_of(node.value))
        if isinstance(node, ast.AnnAssign) and dotted(node.target).endswith("axes") and node.value:
            yield from ((node.lineno, name) for name in strings_of(node.value))
        if not isinstance(node, ast.Call):
            continue
        called = dotted(node.func).split(".")[-1]
        if called in ("constrain", "with_logical_partitioning", "initializer"):
            for argument in node.args[1:]:
                yield from ((node.lineno, name) for name in strings_of(argument))


def test_every_logical_axis_that_is_named_exists():
    known = logical_axes() | {"zeros", "lecun"}  # an initialiser's name stands beside its axes
    report(
        [
            f"{source.path}:{line} names the axis {name!r}"
            for source in sources("ft_jax/nn", "ft_jax/models")
            for line, name in named_axes(source)
            if name not in known
        ]
    )


def test_no_array_names_an_axis_twice():
    """Two dimensions cannot go to one mesh axis; None replicates any number of them."""
    report(
        [
            f"{source.path}:{node.lineno} {ast.unparse(node)}"
            for source in sources("ft_jax/nn", "ft_jax/models")
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Tuple)
            and (names := [n.value for n in node.elts if isinstance(n, ast.Constant) and n.value])
            and set(names) <= logical_axes()
            and len(names) > len(set(names))
        ]
    )


def test_every_logical_axis_that_exists_is_named():
    used = {n for s in sources("ft_jax/nn", "ft_jax/models") for n in strings_of(s.tree)}
    report(sorted(logical_axes() - used))


def is_dataclass(node: ast.ClassDef) -> bool:
    names = [dotted(d.func if isinstance(d, ast.Call) else d) for d in node.decorator_list]
    return any(name.split(".")[-1] == "dataclass" for name in names)


def settings_classes(source: Source) -> Iterator[tuple[ast.ClassDef, bool]]:
    """The dataclasses of settings in a file (named ...Config), each with: is it frozen?"""
    for node in classes(source.tree):
        if node.name.endswith("Config") and is_dataclass(node):
            text = "".join(ast.unparse(decorator) for decorator in node.decorator_list)
            yield node, "frozen=True" in text or "struct.dataclass" in text


def test_settings_are_frozen():
    report(
        [
            f"{source.path}:{node.lineno} {node.name} is not frozen"
            for source in sources("ft_jax", "data_pipeline")
            for node, frozen in settings_classes(source)
            if not frozen
        ]
    )


def test_every_setting_has_a_reader():
    read = set()
    for source in sources("ft_jax", "data_pipeline"):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                read.add(node.attr)
    # `make` of the mesh reads its axes through their tuple.
    read |= strings_of(assigned("ft_jax/sharding/mesh.py", "AXES"))
    broken = []
    for source in sources("ft_jax", "data_pipeline"):
        for node, _ in settings_classes(source):
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and dotted(field.target) not in read:
                    broken.append(f"{source.path}:{field.lineno} {dotted(field.target)}: no reader")
    report(broken)


def test_shape_annotations_use_the_letters_of_the_glossary():
    letters = set(ast.literal_eval(assigned("ft_jax/typing.py", "DIMENSIONS")))
    kinds = re.compile(r"^(Float\d*|BFloat16|U?Int\d*|Bool|Num|Real|Complex|Shaped|Key|Inexact)$")
    broken = []
    for source in sources("ft_jax", "data_pipeline"):
        for node in ast.walk(source.tree):
            if not isinstance(node, ast.Subscript) or not kinds.match(dotted(node.value)[-9:]):
                continue
            for shape in strings_of(node.slice):
                for word in shape.split():
                    if not is_known_dimension(word, letters):
                        broken.append(f"{source.path}:{node.lineno} {word!r} in {shape!r}")
    report(broken)


def is_known_dimension(word: str, letters: set[str]) -> bool:
    """A letter, a number, a word that says it (points), `...`, or arithmetic on those."""
    if word in ("...", "_") or "{" in word:  # braces: jaxtyping takes the size from an argument
        return True
    names = re.findall(r"[A-Za-z_]+", word.lstrip("#*?"))
    return all(name in letters or len(name) > 3 for name in names)


def test_no_path_of_one_machine_is_written_down():
    # Put together here, so that this file does not hold what it looks for.
    machine = re.compile("|".join("/" + name + "/" for name in ("work", "root", "home", "Users")))
    elsewhere = re.compile(r"\.\./" + "shared")
    broken = []
    for path in tracked():
        content = (ROOT / path).read_bytes()
        if b"\0" in content[:8192]:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            if machine.search(line) or (elsewhere.search(line) and path.startswith("tests/")):
                broken.append(f"{path}:{number}: {line.strip()[:80]}")
    report(broken)


def test_every_library_that_is_imported_is_declared():
    declared = set(re.findall(r'"([A-Za-z0-9_-]+)', (ROOT / "setup.py").read_text()))
    declared = {name.lower().replace("-", "_") for name in declared}
    other_name = {
        "PIL": "pillow",
        "yaml": "pyyaml",
        "cv2": "opencv_python_headless",
        "absl": "absl_py",
        "google": "protobuf",
        "orbax": "orbax_checkpoint",
    }
    ours = {*PROGRAM, *SCRIPTS, "tests"}
    broken = []
    for source in sources(*PROGRAM, *SCRIPTS, "tests"):
        for used in imports(source):
            name = other_name.get(used.package, used.package).lower()
            if used.package not in ours | STANDARD and name not in declared:
                broken.append(f"{source.path}:{used.line} imports {used.package}: not in setup.py")
    report(broken)


def test_tests_do_not_excuse_themselves():
    """Skips are refused at run time too (conftest.py); here also those that never fire."""
    excuse = {"skip", "skipif", "xfail", "importorskip"}
    broken = []
    for source in sources("tests"):
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute) and node.attr in excuse:
                line = source.text.splitlines()[node.lineno - 1]
                if "needs tpu" not in line and "needs gpu" not in line:
                    broken.append(f"{source.path}:{node.lineno} {node.attr}")
    report(broken)


def test_whoever_catches_every_error_passes_it_on():
    report(
        [
            f"{source.path}:{node.lineno} swallows every error"
            for source in sources(*PROGRAM, *SCRIPTS)
            for node in ast.walk(source.tree)
            if isinstance(node, ast.ExceptHandler)
            and (node.type is None or dotted(node.type) in ("Exception", "BaseException"))
            and not passes_on(node)
        ]
    )


def passes_on(handler: ast.ExceptHandler) -> bool:
    """It raises again, or hands the error itself to someone who will."""
    inside = [node for statement in handler.body for node in ast.walk(statement)]
    names = {node.id for node in inside if isinstance(node, ast.Name)}
    return handler.name in names or any(isinstance(node, ast.Raise) for node in inside)


@pytest.mark.parametrize("mark", ["noqa", "type: ignore", "pyright: ignore"])
def test_a_silenced_checker_names_the_rule(mark: str):
    bare = re.compile(re.escape(mark) + r"\s*($|#)")
    broken = []
    for source in sources(*PROGRAM, *SCRIPTS, "tests"):
        lines = iter(source.text.splitlines(keepends=True))
        for token in tokenize.generate_tokens(lambda lines=lines: next(lines, "")):
            if token.type == tokenize.COMMENT and bare.search(token.string):
                broken.append(f"{source.path}:{token.start[0]} {token.string}")
    report(broken)
