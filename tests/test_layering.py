"""Who may import whom: every import of every file, read without running any."""

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"hardware_sim", "agents", "envs", "haq", "scripts", "tests"}
MAY_IMPORT: dict[str, set[str]] = {
    "hardware_sim": {"hardware_sim"},
    "agents": {"agents"},
    "envs": {"envs", "hardware_sim"},
    "haq": {"haq", "envs", "agents", "hardware_sim"},
}
ROWS = (
    ("__main__", "__init__", "cli", "api"),
    ("reporting",),
    ("studies",),
    ("searching", "training", "finetuning", "reconstruction", "sensitivity", "exporters"),
    ("experiment",),
    ("evaluation",),
    ("quantization",),
    ("network",),
    ("tasks",),
    ("costs",),
    ("runs",),
    ("execution",),
    ("config", "interchange"),
    ("settings",),
    ("policy", "budgets"),
    ("notebook",),
    ("files", "file_limits", "formatting", "layer_bits", "tables"),
    ("errors",),
)
"""What lies in `haq/`, from top to bottom: each row may import those below it. ARCHITECTURE.md draws the same order."""
BESIDE = {("__init__", "api"), ("__main__", "cli"), ("cli", "api")}
"""Imports within a row that are allowed."""
LIGHT = {"numpy", "scipy", "pydantic"}
"""What the simulators may use beside the standard library."""
HEAVY = {"torchvision", "timm", "onnx", "onnxscript", "optuna", "onnxruntime", "pandas", "matplotlib", "sklearn"}
PUBLIC = {"search", "finetune", "reconstruct", "export", "simulate", "load", "load_policy"}
"""The functions that `import haq` offers, or will."""


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path, *, module_level: bool = False) -> Iterator[str]:
    """Names of the imported modules, dotted; on request only of those that importing the file itself brings in."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by a relative path"
            yield node.module or ""
        elif module_level and (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or for_types(node)
        ):
            continue
        pending.extend(ast.iter_child_nodes(node))


def for_types(node: ast.AST) -> bool:
    """Is this `if TYPE_CHECKING:`?"""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def top(module: str) -> str:
    return module.partition(".")[0]


def test_the_reader_sees_every_way_to_import(tmp_path: Path) -> None:
    source = "import a.b, c\nfrom d.e import f\ndef g():\n    import h\nclass I:\n    import j\n"
    source += "if TYPE_CHECKING:\n    import k\n"
    path = tmp_path / "example.py"
    path.write_text(source)
    assert sorted(imports(path)) == ["a.b", "c", "d.e", "h", "j", "k"]
    assert sorted(imports(path, module_level=True)) == ["a.b", "c", "d.e", "j"]


@pytest.mark.parametrize("package", sorted(MAY_IMPORT))
def test_arrows_only_point_down(package: str) -> None:
    assert files(package), f"no files in {package}"
    upward = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files(package)
        for module in imports(path)
        if top(module) in OURS - MAY_IMPORT[package]
    }
    assert not upward


def inside_haq(path: Path, root: Path = ROOT / "haq") -> set[str]:
    """The parts of `haq` that a file imports from a row that is not below its own, lazy imports included."""
    rows = {part: row for row, parts in enumerate(ROWS) for part in parts}
    own = path.relative_to(root).with_suffix("").parts[0]
    found = {module.split(".")[1] if "." in module else "__init__" for module in imports(path) if top(module) == "haq"}
    return {part for part in found - {own} if rows[part] <= rows[own] and (own, part) not in BESIDE}


def test_every_part_of_haq_has_a_row() -> None:
    parts = {path.name.partition(".")[0] for path in (ROOT / "haq").iterdir()} - {"", "py", "__pycache__"}
    assert parts <= {part for row in ROWS for part in row}


def test_imports_inside_haq_only_point_down() -> None:
    upward = {f"{path.relative_to(ROOT)} imports {part}" for path in files("haq") for part in inside_haq(path)}
    assert not upward


@pytest.mark.parametrize(
    "source",
    ["from haq.searching.search import search_configured\n", "def late():\n    import haq.searching.search\n"],
    ids=["plain", "lazy"],
)
def test_an_upward_import_is_found(source: str, tmp_path: Path) -> None:
    planted = tmp_path / "quantization" / "planted.py"
    planted.parent.mkdir()
    planted.write_text(source)
    assert inside_haq(planted, tmp_path) == {"searching"}


def test_the_modules_of_haq_form_no_cycle() -> None:
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files("haq")}
    graph = {name: {each for each in imported(path) if each in modules} for name, path in modules.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, naming the modules


def imported(path: Path) -> Iterator[str]:
    """The modules that a file imports, also where one is imported from its package by name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_nobody_imports_the_scripts() -> None:
    everyone = [path for package in (*MAY_IMPORT, "scripts") for path in files(package)]
    assert not [path for path in everyone for module in imports(path) if top(module) in {"scripts", "tests"}]


def test_the_simulators_need_no_framework() -> None:
    foreign = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files("hardware_sim")
        for module in imports(path)
        if top(module) not in {*LIGHT, "hardware_sim", *sys.stdlib_module_names}
    }
    assert not foreign


@pytest.mark.parametrize("package", ["envs", "agents"])
def test_environment_and_agents_know_no_vision_library_and_no_file_format(package: str) -> None:
    # Optuna is a search method, imported by the agent that is one.
    assert not [path for path in files(package) for module in imports(path) if top(module) in HEAVY - {"optuna"}]
    assert not [path for path in files(package) for module in imports(path, module_level=True) if top(module) in HEAVY]


AT_MODULE_LEVEL: dict[str, set[str]] = {
    # Plots are drawn by nothing else, and are themselves imported where they are drawn.
    "haq/reporting/plots": {"matplotlib", "pandas"},
    "haq/reporting/page": {"matplotlib"},
    # One module for each of these libraries, imported where it is needed.
    "haq/exporters": {"onnx", "onnxscript", "onnxruntime"},
    "haq/evaluation/engines/onnxruntime": {"onnx", "onnxruntime", "onnxscript"},
    "haq/costs/layer_graph": {"onnx"},
    "haq/execution/onnx_sessions": {"onnxruntime"},
    # Tables of many searches, made where these are put together.
    "haq/studies": {"pandas"},
}


def test_libraries_that_not_everybody_has_are_imported_where_they_are_used() -> None:
    early = {
        f"{path.relative_to(ROOT)} imports {module}"
        for path in files("haq")
        for module in imports(path, module_level=True)
        if top(module) in HEAVY
        and not any(
            str(path.relative_to(ROOT)).startswith(place) and top(module) in libraries
            for place, libraries in AT_MODULE_LEVEL.items()
        )
    }
    assert not early


def test_no_submodule_hides_a_public_function() -> None:
    import haq

    names = PUBLIC | set(getattr(haq, "__all__", ()))
    hidden = [name for name in names if (ROOT / "haq" / name).is_dir() or (ROOT / "haq" / f"{name}.py").is_file()]
    assert not hidden
    for name in getattr(haq, "__all__", ()):
        assert getattr(haq, name).__class__.__name__ != "module"


def test_tests_shadow_no_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
