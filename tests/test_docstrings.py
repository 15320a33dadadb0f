"""Public functions, methods and constructors document what they take and return, in sections of the Google style."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "agents",
    "envs",
    "hardware_sim",
    *sorted(f"haq/{path.name}" for path in (ROOT / "haq").iterdir() if path.suffix == ".py"),
    *sorted(f"haq/{path.parent.name}" for path in (ROOT / "haq").glob("*/__init__.py")),
)
"""Packages and modules that are checked: all that are installed."""
SHARED_PROTOCOLS = ("haq/execution",)
"""Packages with protocols that other packages implement."""
COMMAND_DECORATORS = {"with_config", "command", "callback"}
"""Decorators of commands, whose docstring is the help text of the command line and whose flags have their own help."""
Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(package: str) -> Iterator[tuple[Path, ast.Module]]:
    """Yield the modules of a package, or the module of a file."""
    source = ROOT / package
    for path in [source] if source.is_file() else sorted(source.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def parameters(function: Function) -> list[str]:
    """Names of the parameters, without `self` and `cls`, `*` and underscores."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    names = [each.arg for each in every if each is not None]
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def returns_something(function: Function) -> bool:
    annotation = "None" if function.returns is None else ast.unparse(function.returns)
    return annotation not in ("None", "Never", "NoReturn")


def names_of(nodes: list[ast.expr]) -> set[str]:
    """Last parts of dotted names, without subscripts and calls: `functools.cached_property` is `cached_property`."""
    return {ast.unparse(node).partition("[")[0].partition("(")[0].rpartition(".")[2] for node in nodes}


def is_property(function: Function) -> bool:
    return bool(names_of(function.decorator_list) & {"property", "cached_property", "setter", "overload"})


def is_command(function: Function) -> bool:
    return bool(names_of(function.decorator_list) & COMMAND_DECORATORS)


def classes_of(tree: ast.Module) -> list[ast.ClassDef]:
    return [node for node in tree.body if isinstance(node, ast.ClassDef)]


def all_classes(package: str) -> list[ast.ClassDef]:
    return [cls for _, tree in modules(package) for cls in classes_of(tree)]


def methods(cls: ast.ClassDef) -> dict[str, Function]:
    return {node.name: node for node in cls.body if isinstance(node, Function)}


def inherited(package: str) -> set[tuple[str, tuple[str, ...]]]:
    """Names and parameters of the methods of protocols and base classes of a package: documented once, there.

    Protocols of `SHARED_PROTOCOLS` are included.
    """
    every = all_classes(package)
    shared = [cls for other in SHARED_PROTOCOLS for cls in all_classes(other) if "Protocol" in names_of(cls.bases)]
    return {
        (name, tuple(parameters(method)))
        for cls in [*(cls for cls in every if is_declaration(cls, every)), *shared]
        for name, method in methods(cls).items()
    }


def is_declaration(cls: ast.ClassDef, every: list[ast.ClassDef]) -> bool:
    """Whether a class declares methods for others: a protocol, or the base of another class."""
    return "Protocol" in names_of(cls.bases) or any(cls.name in names_of(other.bases) for other in every)


def missing_sections(function: Function, docstring: str) -> Iterator[str]:
    has_parameters = bool(parameters(function))
    if has_parameters and "\nArgs:\n" not in docstring:
        yield "Args"
    # Without parameters the first sentence says what is returned.
    needs_returns = returns_something(function) and (has_parameters or "\n" in docstring)
    if needs_returns and "\nReturns:\n" not in docstring and "\nYields:\n" not in docstring:
        yield "Returns"


def undocumented(package: str) -> Iterator[str]:
    """Public functions and methods without the sections that their signature calls for.

    Exempt are properties, commands, functions without parameters that are described in one line, and methods that
    implement a protocol or override a base class of the package.
    """
    implemented = inherited(package)
    every = all_classes(package)
    for path, tree in modules(package):
        found = [("", node, False) for node in tree.body if isinstance(node, Function)]
        found += [
            (f"{cls.name}.", method, not is_declaration(cls, every))
            for cls in classes_of(tree)
            if not cls.name.startswith("_")
            for method in methods(cls).values()
        ]
        for owner, function, may_inherit in found:
            if function.name.startswith("_") or is_property(function) or is_command(function):
                continue
            if may_inherit and (function.name, tuple(parameters(function))) in implemented:
                continue
            for section in missing_sections(function, ast.get_docstring(function) or ""):
                yield f"{path.relative_to(ROOT)}: {owner}{function.name} lacks {section}"


@pytest.mark.parametrize("package", PACKAGES)
def test_public_functions_document_arguments_and_results(package: str) -> None:
    assert not list(undocumented(package))


@pytest.mark.parametrize("package", PACKAGES)
def test_public_constructors_document_arguments(package: str) -> None:
    assert not [
        f"{path.relative_to(ROOT)}: {cls.name} lacks Args"
        for path, tree in modules(package)
        for cls in classes_of(tree)
        if not cls.name.startswith("_") and "__init__" in methods(cls)
        if parameters(methods(cls)["__init__"]) and "\nArgs:\n" not in (ast.get_docstring(cls) or "")
    ]


def function_of(source: str) -> Function:
    (node,) = ast.parse(source).body
    assert isinstance(node, Function)
    return node


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(x: int) -> int:\n    '''Do.\n\n    Args:\n        x: It.\n\n    Returns:\n        It.\n    '''", []),
        ("def f(x: int) -> int:\n    '''Do.'''", ["Args", "Returns"]),
        ("def f(x: int) -> None:\n    '''Do.'''", ["Args"]),
        ("def f() -> int:\n    '''Number of things.'''", []),
        ("def f() -> int:\n    '''Number of things.\n\n    More of it.\n    '''", ["Returns"]),
        ("def f(self) -> None:\n    '''Do.'''", []),
    ],
)
def test_missing_sections_are_found(source: str, expected: list[str]) -> None:
    function = function_of(source)
    assert list(missing_sections(function, ast.get_docstring(function) or "")) == expected


@pytest.mark.parametrize(
    ("decorator", "expected"),
    [("with_config('data')", True), ("app.command('list')", True), ("app.callback()", True), ("wraps(f)", False)],
)
def test_commands_are_recognized_by_their_decorator(decorator: str, expected: bool) -> None:
    assert is_command(function_of(f"@{decorator}\ndef f(x: int) -> None:\n    pass")) is expected
