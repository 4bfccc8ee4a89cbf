"""The sources of this project as syntax trees, for tests/architecture_test.py.

Nothing is imported or run. Each file is read once.
"""

import ast
import dataclasses
import functools
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclasses.dataclass(frozen=True)
class Source:
    """One Python file: its path below the root, its text and its syntax tree."""

    path: str
    text: str
    tree: ast.Module

    @property
    def home(self) -> str:
        """The folder or file of ft_jax that it belongs to: models, nn, ..., typing."""
        return self.path.split("/")[1].removesuffix(".py")


@dataclasses.dataclass(frozen=True)
class Import:
    """One imported module, as written in full; `top`: outside of any function."""

    module: str
    line: int
    top: bool

    @property
    def package(self) -> str:
        """The first name: ft_jax, jax, torch."""
        return self.module.split(".")[0]


@functools.cache
def sources(*folders: str) -> tuple[Source, ...]:
    found = []
    for path in sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py")):
        text = path.read_text()
        found.append(Source(path.relative_to(ROOT).as_posix(), text, ast.parse(text)))
    return tuple(found)


@functools.cache
def imports(source: Source) -> tuple[Import, ...]:
    inner = {
        id(node)
        for function in functions(source.tree)
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    found = []
    for node in ast.walk(source.tree):
        top = id(node) not in inner
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno, top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.path}:{node.lineno}: relative import"
            found += [Import(f"{node.module}.{a.name}", node.lineno, top) for a in node.names]
    return tuple(found)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def classes(tree: ast.AST) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def dotted(node: ast.AST) -> str:
    """`jax.config.update` of the expression that reads so, else what there is of it."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def strings_of(node: ast.AST) -> set[str]:
    values = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant))
    return {value for value in values if isinstance(value, str)}


def assigned(path: str, name: str) -> ast.expr:
    """The value that the module at `path` gives to `name`."""
    for node in ast.parse((ROOT / path).read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if value is not None and any(getattr(target, "id", "") == name for target in targets):
            return value
    raise AssertionError(f"{path} has no {name}")


def tracked() -> list[str]:
    """Files that git knows or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    return [path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]
