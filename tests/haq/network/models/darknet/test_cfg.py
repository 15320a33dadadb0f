from pathlib import Path

import pytest
import torch
from torch import nn

from haq.errors import UserError
from haq.network.models.darknet.building import build_darknet, cfg_input_shape

NET = "[net]\nwidth=32\nheight=32\n"
CONV = "[convolutional]\nfilters=6\nsize=3\nstride=2\npad=1\nactivation=linear\n"
YOLO = "[yolo]\nmask=1\nanchors=4,4, 8,8\nclasses=1\nnum=2\n"


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    return tmp_path / "a.cfg"


def test_options_take_comments_spaces_and_any_line_ends(cfg: Path) -> None:
    cfg.write_bytes(
        b"\xef\xbb\xbf# a net\r\n [ net ]\r\nwidth = 64 # pixels\r\nheight=32\r\nlearning_rate=0.1\r\n; more\r\n"
        + (CONV + YOLO).encode()
    )
    assert cfg_input_shape(cfg) == (3, 32, 64)
    model = build_darknet(cfg)
    with torch.no_grad():
        (output,) = model(torch.zeros(1, 3, 32, 64))
    assert output.shape == (1, 6, 16, 32)
    (head,) = model.detection.heads
    assert (head.anchors, head.stride, head.scale_xy) == (((8.0, 8.0),), 2, 1.0)


def test_characters_that_cannot_be_printed_are_shown_by_their_codes(cfg: Path) -> None:
    cfg.write_text(NET + CONV.replace("filters=6", "filters=\b6") + YOLO)
    with pytest.raises(UserError, match=r"line 5: expected .section. or option=value, found 'filters=.x086'") as caught:
        build_darknet(cfg)
    assert str(caught.value).isprintable()


def test_loss_and_decoding_follow_the_options_of_yolo(cfg: Path) -> None:
    cfg.write_text(NET + CONV + YOLO + "ignore_thresh=.6\niou_thresh=0.2\nscale_x_y=1.1\nbeta_nms=0.6\n")
    detection = build_darknet(cfg).detection
    assert (detection.settings.ignore_iou, detection.settings.assign_iou) == (0.6, 0.2)
    assert detection.heads[0].scale_xy == 1.1


@pytest.mark.parametrize(
    ("section", "input_shape", "module", "output_shape"),
    [
        ("[maxpool]\nsize=2\nstride=2\n", (16, 16), nn.MaxPool2d(2, 2), (8, 8)),
        ("[maxpool]\nsize=3\nstride=1\n", (16, 16), nn.MaxPool2d(3, 1, 1), (16, 16)),
        ("[maxpool]\nsize=3\nstride=2\n", (16, 16), nn.MaxPool2d(3, 2, 1), (8, 8)),
        ("[upsample]\nstride=2\n", (16, 16), nn.Upsample(scale_factor=2), (32, 32)),
        ("[dropout]\nprobability=.2\n", (16, 16), nn.Identity(), (16, 16)),
        ("[shortcut]\nfrom=-1\nactivation=relu\n", (16, 16), None, (16, 16)),
    ],
)
def test_sections_compute_what_torch_does(
    section: str,
    input_shape: tuple[int, int],
    module: nn.Module | None,
    output_shape: tuple[int, int],
    cfg: Path,
) -> None:
    cfg.write_text(NET + CONV + section + CONV.replace("size=3\nstride=2\npad=1", "size=1") + YOLO)
    layer = build_darknet(cfg).eval().layers[1]
    x = torch.randn(1, 6, *input_shape)
    expected = (x + x).relu() if module is None else module(x)
    found = layer(x, x) if module is None else layer(x)
    assert torch.equal(found, expected)
    assert found.shape[2:] == output_shape


def test_pooling_of_an_odd_size_keeps_the_last_pixel(cfg: Path) -> None:
    cfg.write_text("[net]\nwidth=6\nheight=6\n" + CONV + "[maxpool]\nsize=2\nstride=2\n" + CONV + YOLO)
    layer = build_darknet(cfg).layers[1]
    x = torch.arange(9.0).view(1, 1, 3, 3)
    assert layer(x).tolist() == [[[[4, 5], [7, 8]]]]


def test_route_joins_layers_or_takes_a_group(cfg: Path) -> None:
    cfg.write_text(NET + CONV + "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n" + "[route]\nlayers=-1,0\n" + CONV + YOLO)
    model = build_darknet(cfg)
    x = torch.randn(1, 6, 2, 2)
    assert torch.equal(model.layers[1](x), x[:, 3:])
    assert model.sources[2] == (1, 0)
    assert model.layers[3].conv.in_channels == 9
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 32, 32))[0].shape == (2, 6, 8, 8)


def test_a_grouped_convolution_without_norm_has_a_bias(cfg: Path) -> None:
    first = CONV.replace("linear", "mish") + "batch_normalize=1\n"
    cfg.write_text(NET + first + CONV.replace("linear", "leaky") + "groups=3\n" + CONV + YOLO)
    one, two, _, _ = build_darknet(cfg).layers
    assert isinstance(one.activation, nn.Mish)
    assert one.conv.bias is None
    assert two.conv.groups == 3
    assert two.conv.bias is not None
    assert two.activation.negative_slope == 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a\.cfg is no Darknet cfg: its first section is not \[net\]"),
        (CONV, r"its first section is not \[net\]"),
        ("width=3\n", r"line 1: expected \[section\] or option=value"),
        (NET + "stride\n", r"line 4: expected \[section\] or option=value, found 'stride'"),
        ("[net]\nwidth=32\n" + CONV + YOLO, r"line 1: \[net\]: height is missing; expected a whole number from 1"),
        (NET + CONV, r"line 1: \[net\]: the network has no \[yolo\] section"),
        (
            NET + CONV + YOLO + "ignore_thresh=.6\n[route]\nlayers=-2\n" + YOLO + "ignore_thresh=.7\n",
            r"line 18: \[yolo\]: ignore_thresh=0.7 and iou_thresh=1 differ from ignore_thresh=0.6 .* the same",
        ),
        (NET + "[lstm]\noutput=3\n", r"line 4: \[lstm\]: is not supported; expected \[convolutional\], \[route\]"),
        (NET + CONV + "filters=6\n" + YOLO, r"line 10: \[convolutional\]: filters was given on line 5 already"),
        (NET + CONV + "deform=1\n" + YOLO, r"line 10: \[convolutional\]: deform is no option of it"),
        (NET + CONV.replace("linear", "maxout"), r"line 9: .*activation=maxout is not one of leaky, linear, logistic"),
        (NET + CONV.replace("=6", "=six"), r"line 5: .*filters=six is not a whole number from 1 to 65536"),
        (NET + CONV.replace("=6", f"={10**9}"), r"line 5: .*filters=1000000000 is not a whole number"),
        (NET + CONV.replace("=6", "=" + "9" * 5000), r"line 5: .*filters=9{40} is not a whole number"),
        (NET + CONV.replace("=6", "=-6"), r"line 5: .*filters=-6 is not"),
        (NET + CONV + "groups=2\n", r"groups=2 does not divide 3 input channels and 6 filters"),
        (NET + CONV.replace("size=3", "size=99").replace("pad=1", "pad=0"), r"its input is smaller than its window"),
        (NET + CONV + "[route]\nlayers=-2\n", r"line 10: \[route\]: layers=-2 is no layer before this one"),
        (NET + CONV + "[route]\nlayers=1\n", r"layers=1 is no layer before this one, which is layer 1"),
        (NET + CONV + CONV + "[route]\nlayers=-1,-2\n", r"outputs of different sizes: 6x8x8, 6x16x16"),
        (NET + CONV + CONV + "[shortcut]\nfrom=-2\n", r"outputs of different shapes: 6x8x8, 6x16x16"),
        (NET + CONV + "[route]\nlayers=-1\ngroups=4\n", r"groups=4 does not divide the channels"),
        (NET + CONV + "[maxpool]\nsize=2\nstride=1\n", r"padding of 1 pixels for a window of 2 .* is not supported"),
        (NET + CONV + YOLO.replace("classes=1", "classes=2"), r"1 anchors and 2 classes need 7 filters, found 6"),
        (NET + CONV + YOLO.replace("num=2", "num=3"), r"num=3 anchors have 6 widths and heights, found 4"),
        (NET + CONV + YOLO.replace("mask=1", "mask=2"), r"mask=2 is outside the 2 anchors"),
        (NET + CONV + YOLO.replace("4,4", "0,nan"), r"anchors=0,nan,8,8 is not numbers above 0"),
        (NET + CONV + YOLO + "new_coords=1\n", r"new_coords=1 is not a whole number from 0 to 0"),
        (NET.replace("=32", "=33") + CONV + YOLO, r"the image of 33x33 is no multiple of its 17x17 cells"),
        (NET + CONV + "[lambda]\n" * 1000, r"has 1002 sections; at most 1000 are supported"),
    ],
)
def test_wrong_files_are_refused_in_one_line_with_its_number(text: str, message: str, cfg: Path) -> None:
    cfg.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        build_darknet(cfg)
    assert "\n" not in str(caught.value)


def test_networks_that_are_too_large_are_refused_before_memory_is_taken(cfg: Path) -> None:
    wide = CONV.replace("filters=6", "filters=65536")
    cfg.write_text(NET + wide + wide + YOLO)
    with pytest.raises(
        UserError, match=r"line 10: \[convolutional\]: the layers up to here have more than 268435456 w"
    ):
        build_darknet(cfg)
    cfg.write_text(NET + CONV + "[upsample]\nstride=16\n" * 5 + YOLO)
    with pytest.raises(UserError, match="more than 536870912 values for one image"):
        build_darknet(cfg)


def test_heads_of_different_classes_are_refused(cfg: Path) -> None:
    second = CONV.replace("=6", "=14").replace("size=3\nstride=2\npad=1", "size=1")
    cfg.write_text(NET + CONV + YOLO + second + YOLO.replace("mask=1", "mask=0,1").replace("classes=1", "classes=2"))
    with pytest.raises(UserError, match=r"different numbers of classes: \[1, 2\]"):
        build_darknet(cfg)


def test_files_that_are_no_text_are_refused(cfg: Path) -> None:
    with pytest.raises(UserError, match="cannot read Darknet cfg"):
        build_darknet(cfg)
    cfg.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is no text"):
        build_darknet(cfg)
    cfg.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(UserError, match="larger than 1 MiB"):
        build_darknet(cfg)
