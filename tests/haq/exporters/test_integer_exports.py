"""Export of networks that compute in integers alone: the exact reference decides whether files are right."""

from pathlib import Path
from typing import Any

import pytest

import haq
from haq.errors import HaqWarning
from haq.exporters.registry import make_runtime
from haq.layer_bits import LayerBits
from haq.policy import Policy


def test_a_network_far_from_the_quantized_one_is_written_with_a_warning(
    digits_run: Path, few_images: dict[str, Any], tmp_path: Path
) -> None:
    if (missing := make_runtime("c").missing()) is not None:
        pytest.skip(missing)
    layers = [
        LayerBits(name=x.name, kind=x.kind, w_bits=2, a_bits=2)
        for x in haq.load_policy(digits_run / "policy.json").layers
    ]
    policy = Policy(model="digits_cnn", hardware=None, objective=None, layers=tuple(layers))
    with pytest.warns(HaqWarning, match="predictions are those of the quantized network|relative output error"):
        record = haq.export(policy, "c", out=tmp_path / "n.c", zero_points="none", **few_images)
    assert (tmp_path / "n.c").is_file()
    assert record.outputs is not None
    assert record.outputs.noise > 0.05
