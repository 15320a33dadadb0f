"""Files of other tools as policies: each format, names of layers, and mistakes named in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from haq.errors import UserError
from haq.file_limits import BITS
from haq.interchange.read import ImportedPolicy, read_policy
from hardware_sim.layer import Layer

AIMET = Path(__file__).with_name("aimet")
"""Written by aimet-onnx 2.42.0 for `net.onnx`: weights of 8, 4, 3 and 8 bits, inputs of 8, 5, 6 and 8 bits."""
VERSIONS = ("0.6.1", "1.0.0", "2.0.0", "2.1.0")
LAYERS = (
    Layer(name="conv1", kind="conv", c_in=1, c_out=4, input_tensors=(0,), output_tensor=1),
    Layer(name="conv2", kind="depthwise", c_in=4, c_out=4, groups=4, input_tensors=(1,), output_tensor=2),
    Layer(name="conv3", kind="conv", c_in=4, c_out=4, input_tensors=(2,), output_tensor=3),
    Layer(name="fc", kind="linear", c_in=4, c_out=10, input_tensors=(3,), output_tensor=4),
)


def imported(content: str | bytes | dict[str, Any] | list[Any], folder: Path, **options: Any) -> ImportedPolicy:
    """The policy in a file with this content."""
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path = folder / "bits"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    layers = options.pop("layers", LAYERS)
    return read_policy(path, layers, model="net", **options)


def bits(found: ImportedPolicy) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
    return found.policy.w_bits, found.policy.a_bits


@pytest.mark.parametrize("version", VERSIONS)
def test_encodings_with_their_graph_give_every_layer_its_bits(version: str) -> None:
    path = AIMET / f"mixed-{version}.encodings"
    found = read_policy(path, LAYERS, model="net", graph=AIMET / "net.onnx")
    assert bits(found) == ((8, 4, 3, 8), (8, 5, 6, 8))
    assert [layer.kind for layer in found.policy.layers] == ["conv", "depthwise", "conv", "linear"]


@pytest.mark.parametrize("version", VERSIONS)
def test_encodings_with_mixed_activations_need_their_graph(version: str) -> None:
    with pytest.raises(UserError, match=r"activations of different bits .* give the ONNX file .* --onnx"):
        read_policy(AIMET / f"mixed-{version}.encodings", LAYERS, model="net")


def test_equal_activations_need_no_graph(tmp_path: Path) -> None:
    document = json.loads((AIMET / "mixed-1.0.0.encodings").read_text())
    for entry in document["activation_encodings"]:
        entry["bw"] = 8
    found = imported(document, tmp_path)
    assert bits(found) == ((8, 4, 3, 8), (8, 8, 8, 8))
    assert "activations have 8 bits" in found.notes[0]


def encodings(*params: tuple[str, Any], **changes: Any) -> dict[str, Any]:
    entries = [{"name": name, "bw": bw, "dtype": "INT"} for name, bw in params]
    return {"version": "1.0.0", "param_encodings": entries, "activation_encodings": [], **changes}


def test_layer_without_encoding_stays_in_float_and_is_named(tmp_path: Path) -> None:
    found = imported(encodings(("conv1.weight", 4)), tmp_path)
    assert bits(found) == ((4, None, None, None), (None,) * 4)
    left = "left in float, since the file gives no bits:"
    assert found.notes == (f"{left} conv2, conv3, fc", f"{left} inputs of conv1")


def test_parameters_that_are_no_layers_are_a_note(tmp_path: Path) -> None:
    found = imported(encodings(("conv1.weight", 4), ("conv1.bias", 32), ("bn1.weight", 8)), tmp_path)
    assert found.policy.w_bits[0] == 4
    assert "'bn1.weight' is no layer of the network" in found.notes[0]


def test_inputs_by_the_names_of_modules(tmp_path: Path) -> None:
    of_module = {
        "conv1": {"input": {"0": {"bitwidth": 6, "dtype": "int"}}},
        "conv2": {"output": {"0": {"bitwidth": 8, "dtype": "int"}}},
    }
    parameters = {name: [{"bitwidth": 4, "dtype": "int"}] * 2 for name in ("module.conv1.weight", "conv2.weight")}
    found = imported({"param_encodings": parameters, "activation_encodings": of_module}, tmp_path)
    assert bits(found) == ((4, 4, None, None), (6, None, 8, None))


def test_float_encodings_leave_a_layer_in_float(tmp_path: Path) -> None:
    entries = [
        {"name": "conv1.weight", "output_dtype": "int4"},
        {"name": "conv2.weight", "output_dtype": "float16"},
        {"name": "conv3.weight.input", "output_dtype": "uint3"},
    ]
    assert bits(imported({"version": "2.0.0", "encodings": entries}, tmp_path)) == (
        (4, None, None, None),
        (None, None, 3, None),
    )


def test_wide_integers_are_refused_or_left_in_float(tmp_path: Path) -> None:
    document = encodings(("conv1.weight", 16), ("conv2.weight", 4))
    with pytest.raises(UserError, match=r"param_encodings\.0: 16 bits, but a policy has 1 to 8 or float"):
        imported(document, tmp_path)
    assert imported(document, tmp_path, wide_as_float=True).policy.w_bits == (None, 4, None, None)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["layer,w_bits,a_bits", "Name,weight_bits,activation_bits,remark"])
def test_tables(separator: str, header: str, tmp_path: Path) -> None:
    rest = ",why" if header.endswith("remark") else ""
    rows = [header, f"conv1,8,8{rest}", f"conv2,4,float{rest}", "", f"fc, 3 ,{rest}"]
    text = "\ufeff" + "\r\n".join(rows).replace(",", separator) + "\r\n"
    assert bits(imported(text, tmp_path)) == ((8, 4, None, 3), (8, None, None, None))


def test_lists_and_objects_of_layers(tmp_path: Path) -> None:
    expected = ((4, None, None, 8), (8, 3, None, None))
    listed = [
        {"name": "conv1", "w_bits": 4, "a_bits": 8},
        {"name": "conv2", "w_bits": "float", "a_bits": 3},
        {"layer": "fc", "weight_bits": 8},
    ]
    assert bits(imported(listed, tmp_path)) == expected
    assert bits(imported({"layers": listed}, tmp_path)) == expected
    by_name = {"conv1": {"w_bits": 4, "a_bits": 8}, "conv2": {"input_bits": 3}, "fc": {"weights_n_bits": 8}}
    assert bits(imported(by_name, tmp_path)) == expected


def test_bits_of_outputs_become_those_of_the_layers_that_read_them(tmp_path: Path) -> None:
    document = {
        "conv1": {"weights_n_bits": 8, "activation_n_bits": 5},
        "conv2": {"weights_n_bits": 4, "activation_n_bits": None},
        "conv3": {"weights_n_bits": 4, "activation_n_bits": 8},
    }
    assert bits(imported(document, tmp_path)) == ((8, 4, 4, None), (None, 5, None, 8))


RULES: list[dict[str, Any]] = [
    {"quantizer_name": "*", "enable": False},
    {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": 8, "axis": 0}},
    {"quantizer_name": "*input_quantizer", "cfg": {"num_bits": 8}},
    {"quantizer_name": "conv*.weight_quantizer", "cfg": {"num_bits": 4}, "parent_class": "nn.Conv2d"},
    {"quantizer_name": "fc*", "enable": False},
]


def test_rules_of_model_optimizer(tmp_path: Path) -> None:
    expected = ((4, 4, 4, None), (8, 8, 8, None))
    assert bits(imported({"quant_cfg": RULES, "algorithm": "max"}, tmp_path)) == expected
    by_pattern = {
        "*weight_quantizer": {"num_bits": 4, "axis": 0},
        "*input_quantizer": {"num_bits": 8},
        "fc*": {"enable": False},
        "default": {"enable": False},
    }
    assert bits(imported({"quant_cfg": by_pattern}, tmp_path)) == expected


def test_tied_layer_has_the_bits_of_its_owner(tmp_path: Path) -> None:
    tied = Layer(name="fc:2", kind="linear", c_in=4, c_out=10, tied_to="fc")
    assert imported("layer,w_bits\nfc,3\n", tmp_path, layers=(*LAYERS, tied)).policy.w_bits[-2:] == (3, 3)
    with pytest.raises(UserError, match="fc:2 must have the bits of fc"):
        imported("layer,w_bits\nfc,3\nfc:2,4\n", tmp_path, layers=(*LAYERS, tied))


def test_parameters_of_attention_and_recurrent_layers(tmp_path: Path) -> None:
    layers = tuple(Layer(name=name, kind="linear", c_in=1, c_out=1) for name in ("a.in_proj", "lstm.ih_l0", "emb"))
    document = encodings(("a.in_proj_weight", 2), ("lstm.weight_ih_l0", 3), ("model.emb.weight", 4))
    document["param_encodings"].append({"name": "lstm.bias_ih_l0", "bw": 32, "dtype": "INT"})
    found = imported(document, tmp_path, layers=layers)
    assert found.policy.w_bits == (2, 3, 4)
    assert not any("no layer" in note for note in found.notes)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no JSON"),
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("null", "layers with their bits expected"),
        ('{"layers": []}', "layers with their bits expected"),
        ('{"new\\nline": 4}', "new?line: an object expected"),
        ('{"conv1": 4}', "conv1: an object expected"),
        ('{"conv1": {"bits": 4}}', "conv1: w_bits or a_bits expected"),
        ('[{"w_bits": 4}]', "layers.0: the name of a layer expected"),
        ('{"conv1": {"w_bits": 4.5}}', "conv1.w_bits: '4.5' is no number of bits"),
        ('{"conv1": {"w_bits": true}}', "is no number of bits"),
        ('{"conv1": {"w_bits": 0}}', "integers of 1 to 32 bits"),
        ('{"conv1": {"w_bits": 9}}', "9 bits, but a policy has 1 to 8"),
        ('{"conv1": {"w_bits": NaN}}', "no JSON"),
        ('{"con1": {"w_bits": 4}}', "'con1' is no layer of the network; the most similar is 'conv1'"),
        ('{"format": "haq-policy"}', "a policy of haq already"),
        ('{"quant_cfg": 3}', "quant_cfg"),
        ('{"quant_cfg": {"*": {"num_bits": [4, 3]}}}', "num_bits of a float format"),
        ('{"quant_cfg": {"nn.Linear": {"*": {}}}}', "write them as a list of rules"),
        ("layer,w_bits\n", "no layers"),
        ("layer,bits\nconv1,4\n", "line 1: a header such as layer,w_bits,a_bits"),
        ("layer,w_bits,w_bits\nconv1,4,4\n", "line 1: two columns 'w_bits'"),
        ("layer,w_bits\nconv1\n", "line 2: 2 cells expected, not 1"),
        ("layer,w_bits\n\nconv1,four\n", "line 3, w_bits: 'four' is no number of bits"),
        ("layer,w_bits\nconv1,4\nconv1,5\n", "line 3, w_bits: conv1 has other bits in line 2, w_bits"),
        ("layer,w_bits\nconv1,4\nconv9,5\nfoo,1\n", "2 names are no layers of the network, such as line 3"),
        ('layer,w_bits\n"conv1,4\n', "line"),
        ("layer,w_bits\nconv1," + "1" * 200_000, "line 2: field larger"),
        ('{"version": "3.0.0", "encodings": []}', "version: '3.0.0'"),
        ('{"version": "2.0.0", "encodings": {}}', "encodings"),
        ('{"version": "2.0.0", "encodings": [{"name": "conv1.weight"}]}', "encodings.0.output_dtype"),
        ('{"encodings": [{"name": "a", "output_dtype": "int99"}]}', "encodings.0.output_dtype"),
        ('{"encodings": [{"name": "a", "output_dtype": "float8e4m3fn"}]}', "neither an integer"),
        ('{"encodings": []}', "no bits for any layer"),
        ('{"param_encodings": {"conv1.weight": []}}', "one width for all channels"),
        ('{"param_encodings": [{"name": "conv1.weight", "bw": "4"}]}', "param_encodings.0.bw"),
        (b"\xff\xfe{}", "is no text: byte 0 is not UTF-8"),
        (b" " * (BITS.max_bytes + 1), "larger than 16 MiB"),
    ],
)
def test_mistake_is_named_in_one_line(content: str | bytes, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        imported(content, tmp_path)
    message = str(caught.value)
    assert says in message
    assert message.startswith((f"{tmp_path / 'bits'}: ", f"{tmp_path / 'bits'} is "))
    assert message.isprintable()


def test_unreadable_files_and_foreign_graphs_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_policy(tmp_path / "missing", LAYERS, model="net")
    path = AIMET / "mixed-1.0.0.encodings"
    with pytest.raises(UserError, match="is no ONNX file"):
        read_policy(path, LAYERS, model="net", graph=path)
    with pytest.raises(UserError, match="cannot read"):
        read_policy(path, LAYERS, model="net", graph=tmp_path / "missing.onnx")
    other = (Layer(name="stem", kind="conv", c_in=1, c_out=1),)
    with pytest.raises(UserError, match="no weights of the network's layers"):
        read_policy(path, other, model="net", graph=AIMET / "net.onnx")


def test_parts_of_layers_without_bits_are_noted(tmp_path: Path) -> None:
    document = {"conv1": {"w_bits": 4}, "conv2": {"a_bits": 8}, "conv3": {"w_bits": 2, "a_bits": 8}}
    found = imported(document, tmp_path)
    assert bits(found) == ((4, None, 2, None), (None, 8, 8, None))
    assert found.notes == tuple(
        f"left in float, since the file gives no bits: {part}" for part in ("fc", "weights of conv2", "inputs of conv1")
    )


def test_wide_activations_that_stay_in_float_are_noted_as_such(tmp_path: Path) -> None:
    document = json.loads((AIMET / "mixed-1.0.0.encodings").read_text())
    for entry in document["activation_encodings"]:
        entry["bw"] = 16
    found = imported(document, tmp_path, wide_as_float=True)
    assert bits(found) == ((8, 4, 3, 8), (None,) * 4)
    assert "have 16 bits, which stay in float: so do the inputs of the layers with quantized weights" in found.notes[0]
