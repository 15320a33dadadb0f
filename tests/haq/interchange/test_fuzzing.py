"""Damaged files of bits: each gives a policy or one line, and no other exception."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from haq.errors import UserError
from haq.interchange.read import read_policy
from haq.policy import Policy, load_policy
from hardware_sim.layer import Layer

AIMET = Path(__file__).with_name("aimet")
LAYERS = tuple(Layer(name=name, kind="conv", c_in=1, c_out=1) for name in ("conv1", "conv2", "conv3", "fc"))
TABLE = b"layer,w_bits,a_bits\nconv1,8,8\nconv2,4,float\nconv3,,\nfc,8,8\n"
LISTED = b'{"layers": [{"name": "conv1", "w_bits": 4, "a_bits": 8}, {"name": "fc", "w_bits": null}]}'
RULES = b'{"quant_cfg": [{"quantizer_name": "*", "enable": false}, {"quantizer_name": "*w*", "cfg": {"num_bits": 4}}]}'
CONTENTS = {
    "table": TABLE,
    "list": LISTED,
    "rules": RULES,
    **{version: (AIMET / f"mixed-{version}.encodings").read_bytes() for version in ("0.6.1", "1.0.0", "2.0.0")},
}
ROUNDS = 80
"""Damaged files per example of hypothesis, which is slower than the reader itself."""


def damaged(content: bytes, random: Random) -> bytes:
    """The content with bytes flipped, a part removed or doubled, or rubbish inserted."""
    place, length = random.randrange(len(content)), random.randrange(1, 40)
    kind = random.randrange(5)
    if kind == 0:
        changed = bytearray(content)
        for _ in range(random.randrange(1, 6)):
            changed[random.randrange(len(changed))] = random.randrange(256)
        return bytes(changed)
    if kind == 1:
        return content[:place]
    if kind == 2:
        return content[:place] + content[place + length :]
    if kind == 3:
        return content[: place + length] + content[place:]
    token = random.choice([b"null", b"-1", b"1e999", b'""', b"[]", b"{}", b'"', b"\\ud800", b"99999999999", b"\x00"])
    return content[:place] + token + content[place + random.randrange(3) :]


def require_sound(read: Callable[[], Policy]) -> None:
    """Require a valid policy, or one printable line."""
    try:
        found = read()
    except UserError as error:
        message = str(error)
    else:
        message = ""
        assert Policy.model_validate_json(found.to_json()) == found
    assert message.isprintable()
    assert len(message) < 1000


@pytest.mark.parametrize("name", CONTENTS)
@given(seed=st.integers(0, 2**32))
@settings(max_examples=4, deadline=None, database=None)
def test_damaged_files_are_refused_or_valid(name: str, seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path, random = tmp_path_factory.getbasetemp() / f"fuzzed-{name}", Random(seed)
    for _ in range(ROUNDS):
        path.write_bytes(damaged(CONTENTS[name], random))
        require_sound(lambda: read_policy(path, LAYERS, model="net").policy)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=4, deadline=None, database=None)
def test_damaged_policies_are_refused_or_valid(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    layers = read_policy(AIMET / "mixed-1.0.0.encodings", LAYERS, model="net", graph=AIMET / "net.onnx").policy.layers
    content = Policy(model="net", hardware=None, objective=None, layers=layers).to_json().encode()
    path, random = tmp_path_factory.getbasetemp() / "fuzzed-policy", Random(seed)
    for _ in range(ROUNDS):
        path.write_bytes(damaged(content, random))
        require_sound(lambda: load_policy(path))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=4, deadline=None, database=None)
def test_damaged_graphs_are_refused_or_give_bits(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    path, random = tmp_path_factory.getbasetemp() / "fuzzed-graph", Random(seed)
    encodings = AIMET / "mixed-1.0.0.encodings"
    for _ in range(ROUNDS):
        path.write_bytes(damaged((AIMET / "net.onnx").read_bytes(), random))
        require_sound(lambda: read_policy(encodings, LAYERS, model="net", graph=path).policy)


@given(content=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@settings(max_examples=100, deadline=None, database=None)
def test_any_bytes_are_refused_or_valid(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed-bytes"
    path.write_bytes(content)
    require_sound(lambda: read_policy(path, LAYERS, model="net").policy)
