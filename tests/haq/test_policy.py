"""Policies as values and as files, also as files that somebody else wrote."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haq import policy as policy_module
from haq.errors import UserError
from haq.file_limits import POLICY
from haq.layer_bits import LayerBits, uniform_bits
from haq.policy import SCHEMA_ID, CostSummary, Policy, PolicyBudget, load_policy, policy_schema
from hardware_sim.cost import OBJECTIVES, Cost
from hardware_sim.layer import LAYER_KINDS, Layer

RESULTS = Path(__file__).resolve().parents[2] / "results"
POLICIES_OF_VERSION_1 = sorted(
    path for path in RESULTS.glob("**/policy.json") if json.loads(path.read_text(encoding="utf-8"))["version"] == 1
)
names = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), min_size=1, max_size=20)
widths = st.none() | st.integers(1, 8)
numbers = st.none() | st.floats(0, 1e300)
costs = st.builds(CostSummary, latency_s=numbers, energy_j=numbers, weight_bytes=numbers, bops=numbers)
signs = st.none() | st.booleans()
granularities = st.sampled_from((None, "per_tensor", "per_channel"))
layer_bits = st.builds(
    LayerBits,
    name=names,
    kind=st.sampled_from(LAYER_KINDS),
    w_bits=widths,
    a_bits=widths,
    w_signed=signs,
    w_granularity=granularities,
    a_signed=signs,
    a_granularity=granularities,
)
limits = st.floats(0, 1e300)
budgets = st.builds(PolicyBudget, objective=st.sampled_from(OBJECTIVES), value=limits, ratio=limits)
policies = st.builds(
    Policy,
    model=names,
    hardware=st.none() | names,
    objective=st.none() | st.sampled_from(OBJECTIVES),
    layers=st.lists(layer_bits, min_size=1, max_size=5, unique_by=lambda layer: layer.name).map(tuple),
    cost=costs,
    baseline_cost=costs,
    accuracy=st.dictionaries(names, st.none() | st.floats(-1e9, 1e9), max_size=3),
    weights=st.none() | st.text("0123456789abcdef", min_size=32, max_size=32),
    budget=st.none() | st.lists(budgets, max_size=2).map(tuple),
)


@given(policies)
@settings(max_examples=100, deadline=None)
def test_policy_round_trips_through_its_file(policy: Policy) -> None:
    assert Policy.model_validate_json(policy.to_json()) == policy
    document = json.loads(policy.to_json())
    assert set(document) == set(Policy.model_fields) - {"schema_id"} | {"$schema"}
    assert (document["$schema"], document["version"]) == (SCHEMA_ID, 2)


@pytest.mark.parametrize("path", POLICIES_OF_VERSION_1, ids=lambda path: path.parent.name)
def test_files_of_version_1_round_trip_unchanged(path: Path) -> None:
    policy = load_policy(path)
    assert policy.version == 1
    assert policy.to_json() == path.read_text(encoding="utf-8")
    assert policy.with_accuracy(report=0.5).version == 1


def test_copy_in_version_2_takes_later_fields() -> None:
    old = Policy.model_validate(document(layers=tuple(layer())))
    new = old.in_version_2(weights="0" * 32)
    assert (old.version, old.weights, new.version, new.weights) == (1, None, 2, "0" * 32)
    assert Policy.model_validate_json(new.to_json()) == new


def test_other_schema_identifiers_are_kept() -> None:
    content = {**document(), "version": 2, "$schema": "../policy.schema.json"}
    policy = Policy.model_validate_json(json.dumps(content))
    assert json.loads(policy.to_json())["$schema"] == "../policy.schema.json"


@pytest.mark.parametrize("name", ["@layers@", '"layers"', "a\\b", "é\u00a0漢", "x:2", "in_proj[0:8]"])
def test_unusual_names_round_trip(name: str, tmp_path: Path) -> None:
    layer = LayerBits(name=name, kind="conv", w_bits=None, a_bits=3)
    policy = Policy(model=name, hardware=name, objective=None, layers=(layer,), accuracy={name: 0.5})
    policy.save(tmp_path / "policy.json")
    assert load_policy(tmp_path / "policy.json") == policy


def document(**changes: Any) -> dict[str, Any]:
    """A valid file, with changes."""
    return {
        "format": "haq-policy",
        "version": 1,
        "model": "net",
        "hardware": "desk",
        "objective": "latency",
        "layers": [{"name": "a", "kind": "conv", "w_bits": 4, "a_bits": 8}],
        "cost": {"latency_s": 0.5},
        "accuracy": {"search": 0.75},
        **changes,
    }


def complaint(content: bytes | str, folder: Path) -> str:
    """The one line with which a file is refused."""
    path = folder / "policy.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as caught:
        load_policy(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 400
    return message


def test_valid_file_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(document()))
    policy = load_policy(path)
    assert (policy.w_bits, policy.a_bits) == ((4,), (8,))
    assert policy.cost.value("latency") == 0.5
    assert policy.cost.value("energy") is None


def layer(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "a", "kind": "conv", "w_bits": 4, "a_bits": 8, **changes}]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"format": "other"}, "format"),
        ({"version": 3}, "version"),
        ({"weights": None}, "weights: version 1 does not have this field"),
        ({"budget": []}, "budget: version 1 does not have this field"),
        ({"$schema": "urn:haq:policy:2"}, "$schema: version 1 does not have this field"),
        ({"layers": layer(a_signed=True)}, "layers.0.a_signed: version 1 does not have this field"),
        ({"version": 2, "weights": "0" * 31}, "weights"),
        ({"version": 2, "weights": "G" * 32}, "weights"),
        ({"version": 2, "$schema": 2}, "$schema"),
        ({"version": 2, "schema_id": "a"}, "schema_id"),
        ({"version": 2, "budget": 0.6}, "budget"),
        ({"version": 2, "budget": [{"objective": "latency", "value": -1, "ratio": 1}]}, "budget.0.value"),
        ({"version": 2, "budget": [{"objective": "speed", "value": 1, "ratio": 1}]}, "budget.0.objective"),
        ({"version": 2, "budget": [{"objective": "size", "value": 1}]}, "budget.0.ratio"),
        ({"version": 2, "layers": layer(w_signed=1)}, "layers.0.w_signed"),
        ({"version": 2, "layers": layer(w_granularity="per_group")}, "layers.0.w_granularity"),
        ({"version": "1"}, "version"),
        ({"version": 10**4000}, "version"),
        ({"model": 3}, "model"),
        ({"model": ""}, "model"),
        ({"model": "two\nlines"}, "model"),
        ({"model": "\x1b[2J"}, "model"),
        ({"model": "x" * 5000}, "model"),
        ({"hardware": ["desk"]}, "hardware"),
        ({"objective": "speed"}, "objective"),
        ({"layers": []}, "layers"),
        ({"layers": {}}, "layers"),
        ({"layers": None}, "layers"),
        ({"layers": [3]}, "layers.0"),
        ({"layers": layer() + layer()}, "layers: 'a'"),
        ({"layers": layer(name="")}, "layers.0.name"),
        ({"layers": layer(name="a\u2028b")}, "layers.0.name"),
        ({"layers": layer(kind="pool")}, "layers.0.kind"),
        ({"layers": layer(w_bits=9)}, "layers.0.w_bits"),
        ({"layers": layer(w_bits=0)}, "layers.0.w_bits"),
        ({"layers": layer(a_bits=-1)}, "layers.0.a_bits"),
        ({"layers": layer(a_bits=10**30)}, "layers.0.a_bits"),
        ({"layers": layer(w_bits=4.0)}, "layers.0.w_bits"),
        ({"layers": layer(w_bits="4")}, "layers.0.w_bits"),
        ({"layers": layer(w_bits=True)}, "layers.0.w_bits"),
        ({"layers": layer(bits=4)}, "layers.0.bits"),
        ({"layers": [{"name": "a", "kind": "conv", "w_bits": 4}]}, "layers.0.a_bits"),
        ({"cost": {"latency_s": "0.5"}}, "cost.latency_s"),
        ({"cost": {"latency_s": -1}}, "cost.latency_s"),
        ({"cost": {"latency_s": True}}, "cost.latency_s"),
        ({"cost": {"latency_s": float("nan")}}, "cost.latency_s"),
        ({"cost": {"latency_ms": 1}}, "cost.latency_ms"),
        ({"baseline_cost": {"bops": float("inf")}}, "baseline_cost.bops"),
        ({"accuracy": {"search": float("nan")}}, "accuracy.search"),
        ({"accuracy": {"search": "good"}}, "accuracy.search"),
        ({"accuracy": [0.5]}, "accuracy"),
        ({"accuracy": {"\x1b[2J": 1}}, "accuracy"),
        ({"remarks": "none"}, "remarks"),
        ({"new\nline": 1}, "new?line"),
        ({"k" * 100_000: 1}, "kkk"),
    ],
)
def test_invalid_field_is_named_in_one_line(changes: dict[str, Any], field: str, tmp_path: Path) -> None:
    assert field in complaint(json.dumps(document(**changes)), tmp_path)


@pytest.mark.parametrize("missing", ["format", "version", "model", "hardware", "objective", "layers"])
def test_missing_field_is_named(missing: str, tmp_path: Path) -> None:
    content = document()
    del content[missing]
    assert missing in complaint(json.dumps(content), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"   \n",
        b"null",
        b"[]",
        b'"haq-policy"',
        json.dumps(document()).encode()[:-40],
        b"\xff\xfe" + json.dumps(document()).encode("utf-16-le"),
        json.dumps(document()).encode().replace(b"desk", b"d\xe9sk"),
        json.dumps(document()).replace("desk", "d\\ud800sk").encode(),
        b"[" * 100_000,
        b'{"model":' * 100_000,
        json.dumps(document()).encode() + b" trailing",
        b"\x00" * 100,
        b"PK\x03\x04",
    ],
)
def test_file_that_is_no_policy_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    complaint(content, tmp_path)


def test_file_above_the_size_limit_is_refused(tmp_path: Path) -> None:
    assert "larger than" in complaint(b" " * (POLICY.max_bytes + 1), tmp_path)


def test_duplicate_names_among_many_layers_are_refused(tmp_path: Path) -> None:
    twice = [{"name": f"l{number // 2}", "kind": "conv", "w_bits": 4, "a_bits": 8} for number in range(100_000)]
    assert "'l0' appears more than once" in complaint(json.dumps(document(layers=twice)), tmp_path)


def test_unreadable_path_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.json"):
        with pytest.raises(UserError, match="cannot read policy") as caught:
            load_policy(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_failed_write_leaves_no_file(tmp_path: Path) -> None:
    policy = Policy.model_validate(document(layers=tuple(layer())))
    with pytest.raises(UserError, match="cannot write"):
        policy.save(tmp_path / "no" / "policy.json")
    (tmp_path / "taken").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        policy.save(tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_policy_is_immutable() -> None:
    policy = Policy.model_validate(document(layers=tuple(layer())))
    with pytest.raises(ValueError, match="frozen"):
        policy.model = "other"  # type: ignore[misc]
    with pytest.raises(ValueError, match="frozen"):
        policy.layers[0].w_bits = 2  # type: ignore[misc]


def test_a_policy_of_another_network_is_refused_with_the_difference() -> None:
    network = (Layer(name="a", kind="conv", c_in=1, c_out=1), Layer(name="b", kind="linear", c_in=1, c_out=1))
    policy = Policy(model="m", hardware=None, objective=None, layers=uniform_bits(network, w_bits=4, a_bits=None))
    policy.check_fits(network, model="m")
    assert (policy.w_bits, policy.a_bits) == ((4, 4), (None, None))
    with pytest.raises(UserError, match=r"^the policy \(for m, 2 layers\) does not fit ours: bits for b, which ours"):
        policy.check_fits(network[:1], model="ours")


def test_cost_summary_has_the_four_totals_of_a_cost() -> None:
    cost = Cost(cycles=9.0, latency_s=1.0, energy_j=None, weight_bytes=3.0, bops=4.0, macs=7)
    summary = CostSummary.of(cost)
    assert [summary.value(objective) for objective in OBJECTIVES] == [1.0, None, 3.0, 4.0]


def test_schema_has_the_fields_of_the_reader() -> None:
    schema = policy_schema()
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["format", "version", "model", "hardware", "objective", "layers"]
    assert set(schema["properties"]) == set(Policy.model_fields) - {"schema_id"} | {"$schema"}
    assert (schema["$id"], schema["properties"]["version"]["enum"]) == (SCHEMA_ID, [1, 2])
    bits = schema["$defs"]["LayerBits"]
    assert bits["required"] == ["name", "kind", "w_bits", "a_bits"]
    assert bits["properties"]["w_bits"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 8}
    assert "the layer's input activations" in bits["properties"]["a_bits"]["description"]


def test_shipped_schema_equals_generated_schema() -> None:
    """After a change of the model write `policy_schema()` to the file; raise the version if old files are refused."""
    shipped = Path(policy_module.__file__).with_name("policy.schema.json")
    assert json.loads(shipped.read_text(encoding="utf-8")) == policy_schema()
