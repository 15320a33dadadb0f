"""The graph of a policy cut at every quantized input, so that each layer is computed from inputs that are given.

What lies between two cuts is a segment: a layer, in the kernels that the whole graph runs, and what follows it up to
the codes of the layers that read it. Where an engine differs from another in one segment, none of the others sees it.
"""

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor

from haq.evaluation.engines.onnxruntime.assembly import code_offset
from haq.evaluation.engines.onnxruntime.lowering import Lowering
from haq.evaluation.engines.onnxruntime.marking import layer_of
from haq.evaluation.engines.onnxruntime.sessions import open_session, run_named
from haq.evaluation.engines.onnxruntime.template import Floats, Node, Template
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.quantized_model import Quantizers


class Segments:
    """The segments of one policy in one session of onnxruntime.

    `corrections` are those that were given, with biases as the graph rounds them.
    """

    def __init__(
        self,
        template: Template,
        quantizers: Quantizers,
        bits: PolicyBits,
        *,
        corrections: Corrections,
        threads: int,
    ) -> None:
        cut = _Cut(template, quantizers, bits, corrections=corrections, fold=True)
        self._session = open_session(cut.model().SerializeToString(), threads=threads)
        (self._input,) = (value.name for value in template.marked.graph.input)
        self._names = {layer: _given(template, layer) for layer in cut.offsets}
        self._offsets = cut.offsets
        self.corrections = _rounded(template, corrections, cut.bias_rounding)

    def run(self, inputs: Tensor, given: Mapping[int, Tensor]) -> tuple[Tensor, dict[int, Tensor]]:
        """The network's outputs, and the codes of the input of every layer, by position, at the end of its segment.

        Layers compute from the tensors that are `given`; what comes before the first cut, from `inputs`.
        """
        tensors = {self._input: inputs, **{name: given[layer] for layer, name in self._names.items()}}
        arrays = {name: np.ascontiguousarray(tensor.numpy(force=True)) for name, tensor in tensors.items()}
        outputs, *codes = (torch.from_numpy(each) for each in run_named(self._session, arrays))
        layers = zip(self._offsets.items(), codes, strict=True)
        return outputs, {layer: found.to(torch.int32) - offset for (layer, offset), found in layers}


class _Cut(Lowering):
    """A graph whose layers read inputs that are given."""

    def __init__(
        self, template: Template, quantizers: Quantizers, bits: PolicyBits, *, corrections: Corrections, fold: bool
    ) -> None:
        super().__init__(template, quantizers, bits, corrections=corrections, fold=fold)
        self._found: list[str] = []
        self.offsets: dict[int, int] = {}
        """What stored codes are higher by, by layer, in the order of the outputs."""

    def model(self) -> onnx.ModelProto:
        """The network's outputs come first, then the codes of each layer that is cut off."""
        self._put_nodes()
        codes = [helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in self._found]
        given = [
            helper.make_tensor_value_info(_given(self._template, layer), TensorProto.FLOAT, None)
            for layer in self.offsets
        ]
        return self._graph.model([*self._template.marked.graph.output, *codes], more_inputs=given)

    def _input(self, mark: Node) -> None:
        layer = layer_of(mark)
        quantizer = self._inputs[layer]
        if quantizer is None:
            super()._input(mark)
            return
        self._found.append(self._graph.cut_input(mark, quantizer))
        self.offsets[layer] = code_offset(quantizer)


def _given(template: Template, layer: int) -> str:
    return f"{template.products[layer].name}.input.given"


def with_rounded_biases(
    template: Template, quantizers: Quantizers, bits: PolicyBits, corrections: Corrections
) -> Corrections:
    """Corrections with which torch computes with the biases that the integer graph of the policy has."""
    lowering = Lowering(template, quantizers, bits, corrections=corrections, fold=True)
    lowering.model()
    return _rounded(template, corrections, lowering.bias_rounding)


def _rounded(template: Template, corrections: Corrections, rounding: Mapping[int, Floats]) -> Corrections:
    statistics, biases = dict(corrections.statistics), dict(corrections.biases)
    for layer, added in rounding.items():
        norm = template.products[layer].norm
        if norm is None:
            change = torch.from_numpy(added).float()
            biases[layer] = biases[layer] + change.to(biases[layer]) if layer in biases else change
            continue
        own = (torch.from_numpy(norm.mean).float(), torch.from_numpy(norm.variance).float())
        mean, variance = statistics.get(norm.name, own)
        factor = norm.affine((mean.cpu(), variance.cpu())).factor
        shift = np.divide(added, factor, out=np.zeros_like(added), where=factor != 0)
        statistics[norm.name] = (mean - torch.from_numpy(shift).to(mean), variance)
    return Corrections(statistics, biases)
