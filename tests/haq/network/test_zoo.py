from pathlib import Path

import pytest
import torch

from haq.errors import UserError
from haq.execution.structures import tensors
from haq.network.zoo import BUILT_IN, build_model, default_example, default_input_shape, load_model


def weight_layers(model: torch.nn.Module) -> int:
    return sum(isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)) for module in model.modules())


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_cifar_resnets_have_depth_of_their_name(depth: int) -> None:
    assert weight_layers(load_model(f"cifar_resnet{depth}")) == depth


def test_mobilenet_v1_has_published_parameter_count() -> None:
    model = load_model("mobilenet_v1")
    assert sum(parameter.numel() for parameter in model.parameters()) == 4_231_976  # 4.2 million in the paper's table 8
    assert weight_layers(model) == 28


def test_width_scales_channels() -> None:
    model = load_model("mobilenet_v1:0.5", num_classes=7)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
    assert model.classifier.in_features == 512


SMALL = [f"{name}:0.1" if name.startswith("yolo") else name for name in BUILT_IN]
UNTRAINED = [spec for spec in SMALL if spec not in ("digits_cnn", "shapes_detector")]
"""All built-in models, large ones with few channels."""


@pytest.mark.parametrize("spec", [*UNTRAINED, "torchvision:squeezenet1_1"])
def test_models_are_reproducible_and_keep_random_state(spec: str) -> None:
    state = torch.get_rng_state()
    first, second = load_model(spec), load_model(spec)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in first.modules())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    another = load_model(spec, seed=1)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), another.parameters(), strict=True))


def test_num_classes_sets_last_layer() -> None:
    assert load_model("cifar_resnet20", num_classes=3).linear.out_features == 3
    assert load_model("torchvision:squeezenet1_1", num_classes=5)(torch.zeros(1, 3, 64, 64)).shape == (1, 5)
    assert load_model("digits_cnn", num_classes=4).classifier.out_features == 4


def test_timm_models_are_built_without_download() -> None:
    pytest.importorskip("timm")
    assert load_model("timm:mobilenetv3_small_050", num_classes=2)(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


@pytest.mark.parametrize(
    "spec", [*SMALL, "mobilenet_v1:0.25", "torchvision:squeezenet1_1", "timm:mobilenetv3_small_050"]
)
def test_models_accept_their_default_input_shape(spec: str) -> None:
    if spec.startswith("timm:"):
        pytest.importorskip("timm")
    example = default_example(spec)
    assert example is not None
    with torch.no_grad():
        assert {len(output) for output in tensors(build_model(spec)(example))} == {1}


def test_all_torchvision_models_have_default_input_shape() -> None:
    from torchvision import models

    shapes = {default_input_shape(f"torchvision:{name}") for name in models.list_models(module=models)}
    assert (3, 224, 224) in shapes
    assert None not in shapes
    assert default_input_shape("users_own:net") is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit_cnn", r"unknown model 'digit_cnn'; did you mean digits_cnn\?; expected"),
        ("torchvision:mobilnet_v2", "no 'mobilnet_v2' that is supported here; did you mean mobilenet_v2"),
        ("torchvision:", "no ''"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no 'fasterrcnn_resnet50_fpn' that is supported here; did you mean"),
        ("mobilenet_v1:wide", "between 0 and 4"),
        ("yolov4:0", "between 0 and 4; try yolov4:0.75"),
        ("mobilenet_v1:nan", "between 0 and 4"),
        ("no such:thing", "unknown model"),
        ("lstm_300:foo", r"unknown model 'lstm_300:foo'; did you mean lstm_300"),
        ("collections:OrderedDict", "returned a OrderedDict; expected a torch.nn.Module"),
        ("nowhere_to_be_found:net", "cannot import"),
    ],
)
def test_unknown_names_raise_with_suggestions(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model(spec)


def test_user_function_returns_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "user_nets.py").write_text("import torch\ndef net(): return torch.nn.Linear(3, 2)\n")
    monkeypatch.chdir(tmp_path)
    model = load_model("user_nets:net")
    torch.save(model.state_dict(), "w")
    assert torch.equal(load_model("user_nets:net", weights="w").weight, model.weight)


@pytest.mark.data
def test_published_weights_fit_cifar_resnets(data_dir: Path) -> None:
    for depth, digest in ((20, "12fca82f"), (32, "d509ac18"), (56, "4bfd9763")):
        load_model(f"cifar_resnet{depth}", weights=data_dir / "weights" / f"cifar10_resnet{depth}-{digest}.th")
    with pytest.raises(UserError, match=r"60 missing: layer1\.3\.conv1\.weight"):
        load_model("cifar_resnet32", weights=data_dir / "weights" / "cifar10_resnet20-12fca82f.th")
