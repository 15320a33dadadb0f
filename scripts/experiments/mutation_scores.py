"""Measure which small changes of the code the tests notice, on a seeded sample of changes for each package.

    pip install mutmut
    python scripts/experiments/mutation_scores.py before --work ../mutation --out results/mutation.json
    python scripts/experiments/mutation_scores.py table --out results/mutation.json

mutmut (https://github.com/boxed/mutmut) changes one place of a function, such as `<=` to `<`, and runs the tests that
reach the function; texts of errors are left alone. Here it works on a copy of a commit, in which decorated functions
are rewritten (`undecorate`), as it leaves them out. The changes of a package are drawn from all of its modules alike,
so that the score of a sample estimates that of the package. `after` repeats the changes that `before` did not notice;
`fresh` draws others, on which the score is not biased by tests written for the first sample.
"""

import argparse
import ast
import json
import os
import platform
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from importlib.metadata import version
from math import ceil
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).parents[2]
LIBRARIES = ("mutmut", "pytest", "hypothesis", "torch", "numpy")
SELECTION = ("selection", "goals", "best_episodes", "confidence", "paired_answers", "accuracy_drop")
UNNOTICED = ("survived", "no tests")
KEPT_DECORATORS = {"staticmethod", "classmethod", "overload", "abstractmethod"}
"""The first two are what mutmut can handle."""
CONTEXT = 40
"""Characters that are shown before and after a change."""
CONFIG = """[mutmut]
source_paths =
    haq
    agents
    envs
    hardware_sim
also_copy =
    results
    scripts
do_not_mutate_patterns =
    \\braise\\b
    \\bassert\\b
pytest_add_cli_args =
    --import-mode=importlib
    -pno:cacheprovider
    --show-capture=no
use_git_change_detection = false
timeout_multiplier = 5
timeout_constant = 20
only_mutate =
    {modules}
pytest_add_cli_args_test_selection =
    {tests}
"""


@dataclass(frozen=True, slots=True)
class Package:
    """Modules that are changed, as patterns, and the tests that belong to them."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


PACKAGES = {
    "hardware_sim": Package(("hardware_sim/*.py",), ("tests/hardware_sim",)),
    "envs": Package(("envs/*.py",), ("tests/envs",)),
    "agents": Package(("agents/*.py",), ("tests/agents",)),
    "haq/quantization": Package(("haq/quantization/*.py",), ("tests/haq/quantization",)),
    "prices and budgets": Package(
        ("haq/costs/*.py", "haq/budgets.py"), ("tests/haq/costs", "tests/haq/test_budgets.py")
    ),
    "selection and splits": Package(
        (*(f"haq/searching/{name}.py" for name in SELECTION), "haq/tasks/splits.py"),
        (
            *(f"tests/haq/searching/test_{name}.py" for name in (*SELECTION, "min_cost") if name != "paired_answers"),
            "tests/haq/tasks/test_splits.py",
        ),
    ),
    "haq/network/tracing": Package(
        ("haq/network/tracing/*.py",),
        (
            "tests/haq/network/tracing",
            "tests/haq/network/test_layers.py",
            "tests/haq/network/test_layer_calls.py",
            "tests/haq/network/test_unusual_networks.py",
        ),
    ),
}


class _Undecorate(ast.NodeTransformer):
    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef | list[ast.stmt]:
        names = {each.id for each in node.decorator_list if isinstance(each, ast.Name)}
        if not node.decorator_list or names & KEPT_DECORATORS:
            return node
        value: ast.expr = ast.Name(f"{node.name}_undecorated")
        for decorator in reversed(node.decorator_list):
            value = ast.Call(decorator, [value], [])
        target, node.name, node.decorator_list = ast.Name(node.name), f"{node.name}_undecorated", []
        return [node, ast.Assign([target], value)]

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        # Every function of a protocol is a member to implement.
        is_protocol = any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
        return node if is_protocol else self.generic_visit(node)


def undecorate(source: str) -> str:
    """Rewrite `@decorator def f` as `def f_undecorated` and `f = decorator(f_undecorated)`.

    >>> print(undecorate("@property\ndef f(self): return 1"))
    def f_undecorated(self):
        return 1
    f = property(f_undecorated)
    """
    return ast.unparse(ast.fix_missing_locations(_Undecorate().visit(ast.parse(source))))


def copy_tree(work: Path, commit: str, packages: Sequence[Package], *, tests: Sequence[str]) -> None:
    """Copy a commit, with the functions of the modules undecorated, and write the settings of mutmut."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x"], cwd=work, input=archive, check=True)
    patterns = [pattern for package in packages for pattern in package.modules]
    for path in (path for pattern in patterns for path in work.glob(pattern)):
        path.write_text(undecorate(path.read_text(encoding="utf-8")), encoding="utf-8")
    selected = tests or [each for package in packages for each in package.tests]
    settings = CONFIG.format(modules="\n    ".join(patterns), tests="\n    ".join(selected))
    (work / "setup.cfg").write_text(settings, encoding="utf-8")


def write_mutants(packages: dict[str, Package], *, size: int, seed: int) -> dict[str, int]:
    """Write the mutants of a sample for every package into the current folder; return how many there are of all."""
    from mutmut import __main__ as program
    from mutmut.mutation import file_mutation
    from mutmut.utils import file_utils

    drawn, counts = {}, {}
    for name, package in packages.items():
        paths = sorted(str(path) for pattern in package.modules for path in Path().glob(pattern))
        found = {path: file_mutation.create_mutations(path, Path(path).read_text(encoding="utf-8")) for path in paths}
        numbered = [
            (path, number)
            for path, (_, mutations, *_) in found.items()
            for number, each in enumerate(mutations)
            if type(each.contained_by_top_level_function).__name__ == "FunctionDef"
        ]
        counts[name] = len(numbered)
        kept = set(random.Random(f"{seed} {name}").sample(numbered, min(size, len(numbered))))
        for path, (module, mutations, *ignored) in found.items():
            chosen = [each for number, each in enumerate(mutations) if (path, number) in kept]
            drawn[path] = (module, chosen, *ignored)
    with program.CatchOutput(), patch.object(file_mutation, "create_mutations", lambda path, *_: drawn[path]):
        file_utils.copy_src_dir()
        file_utils.copy_also_copy_files()
        file_utils.setup_source_paths()
        for source in file_utils.walk_source_files():
            result = program.create_file_mutants(source)
            if result.error:
                raise result.error
    return counts


def run_mutants(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Run the tests on the mutants in the current folder, all if none are named; yield their names and states."""
    from mutmut import __main__ as program
    from mutmut.mutation.trampoline import set_mutant_under_test
    from mutmut.state import state
    from mutmut.stats import status_by_exit_code
    from mutmut.workers.isolation import get_mutant_runner

    runner = get_mutant_runner(1)
    program.run_stats_collection(runner)
    set_mutant_under_test("")
    mutants, _ = program.collect_source_file_mutation_data(mutant_names=list(names))
    runner.startup()
    # In random order, so that a run that was cut short has tested a random sample too.
    for _, name, _ in random.Random(0).sample(mutants, len(mutants)):
        tests = state().tests_by_mangled_function_name.get(name.partition("__mutmut_")[0], set())
        seconds = sum(state().duration_by_test[test] for test in tests)
        runner.submit(name, list(tests), ceil(10 * (seconds + 20)), seconds)
        result = runner.wait_for_result()
        yield result.mutant_name, status_by_exit_code[result.exit_code]
    runner.shutdown()


def change_of(name: str) -> str:
    """Return what a mutant in the current folder replaces, with some characters around it."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    lines = [line[1:].strip() for line in get_diff_for_mutant(name).splitlines()[2:] if line[:1] in ("-", "+")]
    old, new = lines[0], " ".join(lines[1:])
    start, end = (max(0, _shared(*both) - CONTEXT) for both in ((old, new), (old[::-1], new[::-1])))
    return f"{old[start : max(start, len(old) - end)]}  ->  {new[start : max(start, len(new) - end)]}"


def _shared(one: str, other: str) -> int:
    """Return the number of characters with which both begin."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))


def package_of(mutant: str, packages: dict[str, Package]) -> str:
    """Return the name of the package of a mutant."""
    path = Path(mutant.partition(".x")[0].replace(".", "/") + ".py")
    return next(name for name, each in packages.items() if any(path.match(pattern) for pattern in each.modules))


def measure(
    packages: dict[str, Package], options: argparse.Namespace, again: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Test a sample of the mutants of some packages, or those unnoticed in `again`; yield what is known by package."""
    copy_tree(options.work, options.commit, list(packages.values()), tests=options.tests)
    os.environ |= {"HAQ_CACHE": str(options.work.parent / "cache"), "OMP_NUM_THREADS": "1"}
    facts = {key: getattr(options, key) for key in ("seed", "size", "commit", "only", "tests")}
    facts["versions"] = {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}
    with chdir(options.work):
        counts = write_mutants(packages, size=options.size, seed=options.seed)
        found = {name: {**facts, "mutants": count, "states": {}, "unnoticed": {}} for name, count in counts.items()}
        names: list[str] = []
        for name, package in found.items() if again else ():
            package["states"] = {**again[name]["states"]}
            names += again[name]["unnoticed"]
        for mutant, state in run_mutants(names):
            package = found[package_of(mutant, packages)]
            package["states"][mutant] = state
            if state in UNNOTICED:
                package["unnoticed"][mutant] = change_of(mutant)
            yield found


def table(stages: dict[str, Any]) -> str:
    """Return a Markdown table of the scores; equivalent mutants are those with a verdict."""
    head = "| package | sample | seed | mutants | tested | killed | equivalent | survived | score |"
    lines = [head, "|---" * 9 + "|"]
    for stage, found in stages.items():
        for name, each in found["packages"].items():
            unnoticed = {mutant for mutant, state in each["states"].items() if state in UNNOTICED}
            tested, equivalent = len(each["states"]), len(unnoticed & set(found.get("equivalent", {})))
            killed = tested - len(unnoticed)
            score = f"{100 * killed / (tested - equivalent):.0f} %"
            cells = (name, stage, each["seed"], f"{each['mutants']:,}", tested, killed, equivalent)
            lines.append(f"| {' | '.join(map(str, cells))} | {len(unnoticed) - equivalent} | {score} |")
    return "\n".join(lines)


def _restricted(package: Package, stems: Sequence[str]) -> Package:
    """Return a package with the modules of these names alone, all if there are none."""
    paths = [path.relative_to(ROOT) for pattern in package.modules for path in sorted(ROOT.glob(pattern))]
    return replace(package, modules=tuple(str(path) for path in paths if not stems or path.stem in stems))


def main() -> None:
    """Measure all packages, or those that are named, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("before", "after", "fresh", "table"))
    parser.add_argument("packages", nargs="*", default=list(PACKAGES))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=80, help="mutants of each package")
    parser.add_argument("--commit", default="HEAD")
    parser.add_argument("--only", nargs="*", default=(), help="names of modules, all others are left alone")
    parser.add_argument("--tests", nargs="*", default=(), help="other tests than those of the packages")
    parser.add_argument("--work", type=Path, default=Path("../mutation"), help="folder that is replaced by a copy")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.work, options.out = options.work.resolve(), options.out.resolve()
    stages = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    if options.stage != "table":
        again = stages["before"]["packages"] if options.stage == "after" else {}
        if again:
            vars(options).update({key: again[options.packages[0]][key] for key in ("seed", "size", "only")})
        packages = {name: _restricted(PACKAGES[name], options.only) for name in options.packages}
        stage = stages.setdefault(options.stage, {"equivalent": {}, "packages": {}})
        for found in measure(packages, options, again):
            stage["packages"] |= found
            options.out.write_text(json.dumps(stages, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(stages))


if __name__ == "__main__":
    main()
