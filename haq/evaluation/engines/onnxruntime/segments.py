"""Graph of a policy cut at every quantized input, so that each layer is computed from inputs that are fed.

The part between two cuts is a segment: a layer, in the kernels that the whole graph runs, and the operators after it up
to the codes of the layers that read it. So a difference between two engines in one segment does not reach the others.
"""

from collections.abc import Mapping

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor

from haq.evaluation.engines.onnxruntime.assembly import code_offset
from haq.evaluation.engines.onnxruntime.float_outputs import EvaluatedLowering
from haq.evaluation.engines.onnxruntime.lowering import Lowering
from haq.evaluation.engines.onnxruntime.marking import operand_of
from haq.evaluation.engines.onnxruntime.sessions import by_name, open_session, run_named
from haq.evaluation.engines.onnxruntime.template import Floats, Node, Template
from haq.execution.structures import Structure, rows
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.operands import OperandKey
from haq.quantization.quantizers import Quantizers


class Segments:
    """Segments of one policy in one onnxruntime session.

    Args:
        template: Graph without the quantizers, weights and biases of its layers.
        quantizers: Quantizers of weights and activations.
        bits: (w_bits, a_bits) of every layer.
        corrections: Corrections of the policy.
        threads: Threads of onnxruntime.

    Attributes:
        corrections: The corrections, with biases as the graph rounds them.
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
        cut = _CutLowering(template, quantizers, bits, corrections=corrections)
        self._session = open_session(cut.model().SerializeToString(), threads=threads)
        self._input_names = [value.name for value in template.marked.graph.input]
        self._output_count = len(template.marked.graph.output)
        self._products = template.products
        self._names = {operand: _given(template, operand) for operand in cut.offsets}
        self._offsets = cut.offsets
        self.corrections = _rounded(template, corrections, cut.bias_rounding)

    def read(self, operand: OperandKey, given: Tensor) -> Tensor:
        """Return the part of an operand in the network that its layer reads in the graph.

        Args:
            operand: Position of the layer, and which operand.
            given: The operand in the network.

        Returns:
            The operand without zeros that the layer adds itself.
        """
        return self._products[operand[0]].read(given) if operand[1] == "input" else given

    def run(self, inputs: Structure, given: Mapping[OperandKey, Tensor]) -> tuple[Tensor, dict[OperandKey, Tensor]]:
        """Run all segments.

        Args:
            inputs: Inputs of the network, [n, ...]; the part before the first cut is computed from them.
            given: Every quantized operand as `read` returns it; the layers are computed from them.

        Returns:
            The network's outputs, and the codes (int32) of every quantized operand at the end of the preceding segment.
        """
        fed = {name: given[operand] for operand, name in self._names.items()}
        tensors = {**by_name(self._input_names, inputs), **fed}
        arrays = {name: np.ascontiguousarray(tensor.numpy(force=True)) for name, tensor in tensors.items()}
        answered = [torch.from_numpy(each) for each in run_named(self._session, arrays)]
        outputs, codes = rows(tuple(answered[: self._output_count])), answered[self._output_count :]
        operands = zip(self._offsets.items(), codes, strict=True)
        return outputs, {operand: found.to(torch.int32) - offset for (operand, offset), found in operands}


class _CutLowering(EvaluatedLowering):
    """Builder of a graph whose layers read fed inputs."""

    def __init__(
        self, template: Template, quantizers: Quantizers, bits: PolicyBits, *, corrections: Corrections
    ) -> None:
        super().__init__(template, quantizers, bits, corrections=corrections)
        self._found: list[str] = []
        self.offsets: dict[OperandKey, int] = {}
        """Offset of the stored codes by operand, in the order of the outputs."""

    def model(self) -> onnx.ModelProto:
        """Return the graph; its outputs are those of the network, then the codes of every cut input."""
        self._put_nodes()
        codes = [helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in self._found]
        given = [
            helper.make_tensor_value_info(_given(self._template, operand), TensorProto.FLOAT, None)
            for operand in self.offsets
        ]
        return self._graph.model([*self._template.marked.graph.output, *codes], more_inputs=given)

    def _input(self, mark: Node) -> None:
        quantizer = self._quantizer(mark)
        if quantizer is None:
            super()._input(mark)
            return
        self._found.append(self._graph.add_cut_input(mark, quantizer))
        self.offsets[operand_of(mark)] = code_offset(quantizer)


def _given(template: Template, operand: OperandKey) -> str:
    layer, which = operand
    return f"{template.products[layer].name}.{which}.given"


def with_rounded_biases(
    template: Template, quantizers: Quantizers, bits: PolicyBits, corrections: Corrections
) -> Corrections:
    """Return corrections with which torch uses the same rounded biases as the integer graph of a policy.

    Args:
        template: Graph without the quantizers, weights and biases of its layers.
        quantizers: Quantizers of weights and activations.
        bits: (w_bits, a_bits) of every layer.
        corrections: Corrections with exact biases.

    Returns:
        Corrections that include the rounding of biases.
    """
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
        float_moments = (torch.from_numpy(norm.mean).float(), torch.from_numpy(norm.variance).float())
        mean, variance = statistics.get(norm.name, float_moments)
        factor = norm.affine((mean.cpu(), variance.cpu())).factor
        shift = np.divide(added, factor, out=np.zeros_like(added), where=factor != 0)
        statistics[norm.name] = (mean - torch.from_numpy(shift).to(mean), variance)
    return Corrections(statistics, biases, corrections.scales)
