"""Search configuration: defaults, groups, validation and messages."""

import json
from typing import Any

import pytest

from haq.budgets import BudgetSpec
from haq.config import SearchConfig, search_config
from haq.errors import UserError
from haq.settings import DECIDE_QUANTIZERS, GROUPS, DataSettings, ModelSettings, settings_of


def test_defaults() -> None:
    config = search_config()
    assert (config.model, config.data, config.hardware) == ("digits_cnn", "digits", "bismo-edge")
    assert (config.objective, config.budget, config.agent, config.seed) == ("latency", ("0.6",), "ddpg", 0)
    assert (config.min_bits, config.max_bits, config.first_last_bits, config.a_bits) == (2, 8, 8, 8)
    assert (config.reward, config.observation, config.calibration, config.device) == ("fidelity", "haq", "auto", "cpu")


def test_configuration_round_trips_through_json() -> None:
    config = search_config(budget=("0.5", "size=10kB"), pin={"stem.0": 6}, input=(1, 16, 16), first_last_bits=None)
    assert SearchConfig(**json.loads(json.dumps(config.model_dump(mode="json")))) == config


def test_every_setting_has_a_description() -> None:
    assert [name for name, field in SearchConfig.model_fields.items() if not field.description] == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"episodes": 0}, r"^--episodes 0: .*greater than or equal to 1"),
        ({"episodes": 1.5}, r"^--episodes 1\.5: .*integer"),
        ({"episodes": True}, r"^--episodes True: .*integer"),
        ({"episodes": 10**10}, r"^--episodes 10000000000: "),
        ({"seed": -1}, r"^--seed -1: "),
        ({"min_bits": 0}, r"^--min-bits 0: "),
        ({"max_bits": 9}, r"^--max-bits 9: "),
        ({"min_bits": 5, "max_bits": 4}, r"^--max-bits 4: must be at least min_bits, which is 5"),
        ({"max_bits": 1}, r"^--max-bits 1: must be at least min_bits, which is 2"),
        ({"first_last_bits": 9}, r"^--first-last-bits 9: "),
        ({"pin": {"a": 0}}, r"^--pin 0: "),
        ({"a_bits": 16}, r"^--a-bits 16: "),
        ({"agent": "dqn"}, r"^--agent 'dqn': .*'ddpg', .* or 'uniform'"),
        ({"objective": "speed"}, r"^--objective 'speed': .*'latency'"),
        ({"device": "tpu"}, r"^--device 'tpu': .*'cpu' or 'cuda'"),
        ({"calibration": "guess"}, r"^--calibration 'guess': "),
        ({"input": (0, 3, 3)}, r"^--input 0: "),
        ({"budget": ()}, r"^--budget \(\): "),
        ({"bugdet": "0.5"}, r"^unknown setting 'bugdet'; did you mean 'budget'\?$"),
        ({"xyzzy": 1}, r"^unknown setting 'xyzzy'$"),
        ({"model": "two\nlines", "episodes": 0}, r"^--episodes 0"),
    ],
)
def test_bad_values_are_named_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        search_config(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("budget", ["0", "-0.5", "nan", "inf", "1.5", "ten", "", "12 parsecs", "0.0.1", "1e999ms"])
def test_bad_budgets_are_named_in_one_line(budget: str) -> None:
    with pytest.raises(UserError, match=r"budget") as caught:
        search_config(budget=(budget,))
    assert repr(budget) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_objective_without_a_budget_is_refused() -> None:
    with pytest.raises(UserError, match="add --budget latency"):
        search_config(budget=("size=0.5",))


def test_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        search_config().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (0.6, ("0.6",)),
        ("12ms", ("12ms",)),
        ([0.6, "size=0.5"], ("0.6", "size=0.5")),
        ({"latency": 0.6, "size": "250kB"}, ("latency=0.6", "size=250kB")),
        (None, ("0.6",)),
    ],
)
def test_budgets_may_be_numbers_texts_and_mappings(budget: object, expected: tuple[str, ...]) -> None:
    assert search_config(budget=budget).budget == expected


def test_mapping_of_budgets_with_an_unknown_objective_is_refused() -> None:
    with pytest.raises(UserError, match="unknown objective 'time'"):
        search_config(budget={"time": 0.5})


@pytest.mark.parametrize("points", [-0.1, 100, float("nan")])
def test_max_accuracy_drop_is_limited_to_points(points: float) -> None:
    assert search_config(max_accuracy_drop=0.5).max_accuracy_drop == 0.5
    with pytest.raises(UserError, match=r"--max-accuracy-drop .*: write points of accuracy from 0 to below 100"):
        search_config(max_accuracy_drop=points)


def test_groups_hold_every_setting_once() -> None:
    assert settings_of(*GROUPS) == tuple(SearchConfig.model_fields)
    assert all(group.heading for group in GROUPS)


def test_json_of_a_configuration_is_flat() -> None:
    document = search_config(budget=("0.5",)).model_dump(mode="json")
    assert list(document) == list(SearchConfig.model_fields)
    assert (document["model"], document["budget"], document["agent"]) == ("digits_cnn", ["0.5"], "ddpg")


def test_configuration_has_its_parsed_budgets() -> None:
    config = search_config(budget=("size=10kB", "0.5"))
    assert config.budgets == (BudgetSpec("latency", 0.5, "ratio"), BudgetSpec("size", 10_000.0, "absolute"))


def test_settings_that_decide_quantizers() -> None:
    model_and_data = set(settings_of(ModelSettings, DataSettings)) - {"input", "report_images", "eval_batch"}
    assert set(DECIDE_QUANTIZERS) == model_and_data | {
        *("deploy", "quantizer", "calibration", "zero_points", "rounding", "corrections")
    }
