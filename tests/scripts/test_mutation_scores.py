"""What the script does around mutmut: rewriting of decorated functions, matching of packages, and the table."""

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture
def scores(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/mutation_scores")


CODE = """
class Area:
    def __init__(self, side):
        self.side = side

    @property
    def value(self):
        return self.side ** 2

    @staticmethod
    def unit():
        return 'm2'

@first(1)
@second
def text():
    return 'a'
"""


def test_decorated_functions_become_plain_ones_that_are_decorated_later(scores: ModuleType) -> None:
    source = scores.undecorate(CODE)
    names = {"first": lambda number: lambda f: lambda: f"{number}{f()}", "second": lambda f: lambda: f() * 2}
    exec(source, names)
    area = names["Area"](3)  # type: ignore[no-untyped-call]
    assert (area.value, area.value_undecorated(), area.unit(), names["text"]()) == (9, 9, "m2", "1aa")  # type: ignore[no-untyped-call]
    assert source.count("@") == 1


def test_protocols_are_left_alone(scores: ModuleType) -> None:
    source = "class Named(Protocol):\n    @property\n    def name(self):\n        ..."
    assert "undecorated" not in scores.undecorate(source)


def test_mutants_belong_to_the_package_of_their_module(scores: ModuleType) -> None:
    of = {
        name: scores.package_of(name, scores.PACKAGES)
        for name in (
            "envs.choices.xǁChoicesǁfits__mutmut_1",
            "haq.budgets.x_parse__mutmut_2",
            "agents.tpe.x_a__mutmut_1",
        )
    }
    assert list(of.values()) == ["envs", "prices and budgets", "agents"]


def test_score_is_of_mutants_that_change_behaviour(scores: ModuleType) -> None:
    states = {"a": "killed", "b": "timeout", "c": "survived", "d": "no tests", "e": "survived"}
    package = {"seed": 1, "mutants": 1200, "states": states, "unnoticed": {"c": "", "d": "", "e": ""}}
    found = {"before": {"equivalent": {"e": "order"}, "packages": {"envs": package}}}
    assert scores.table(found).splitlines()[-1] == "| envs | before | 1 | 1,200 | 5 | 2 | 1 | 2 | 50 % |"
