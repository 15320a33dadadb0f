"""From the template to the graph of a policy.

An input becomes QuantizeLinear, Clip on the codes, DequantizeLinear; weights become int8 codes with one scale a channel
behind a DequantizeLinear. Runtimes turn these patterns into integer kernels; codes of any width up to 8 bits lie in
8-bit containers. Batch norm goes into scales and biases *after* quantizing, so that the numbers are those of fake
quantization with the batch norm apart; where it turns a channel's sign, the codes turn theirs.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from haq.integer_graph.marking import INPUT, MARKS, layer_of
from haq.integer_graph.template import Affine, Node, Product, Template
from haq.quantized_model import Quantizers
from hardware_sim.cost import Bits

import os
BIAS=os.environ.get('BIAS','int'); SIGNED=os.environ.get('SIGNED','int8'); CLIP=os.environ.get('CLIP','auto')
PolicyBits = tuple[Sequence[Bits], Sequence[Bits]]
Corrections = Mapping[int, Affine]
"""By layer: what becomes of its output, bias included, before the batch norm."""


def lower(
    template: Template, quantizers: Quantizers, bits: PolicyBits, *, corrections: Corrections | None = None
) -> onnx.ModelProto:
    """The graph of a policy: w_bits and a_bits of every layer; None stays float.

    Raises ValueError for a correction of a layer whose output the template cannot correct.
    """
    lowering = _Lowering(template, quantizers, bits, corrections or {})
    return lowering.model()


class _Lowering:
    """A graph while it is put together."""

    def __init__(self, template: Template, quantizers: Quantizers, bits: PolicyBits, corrections: Corrections) -> None:
        self._template, self._quantizers = template, quantizers
        self._w_bits, self._a_bits = bits
        self._affines = [_affine(product, corrections.get(n)) for n, product in enumerate(template.products)]
        self._nodes: list[Node] = []
        self._tensors = dict(template.constants)
        self._scales={}

    def model(self) -> onnx.ModelProto:
        for node in self._template.nodes:
            if node.domain != MARKS:
                self._nodes.append(node)
            elif node.op_type == INPUT:
                self._input(node, layer_of(node))
            else:
                self._weight(node, layer_of(node))
        return self._finish()

    def _input(self, mark: Node, layer: int) -> None:
        name, bits = f"{self._template.products[layer].name}.input", self._a_bits[layer]
        quantizer = None if bits is None else self._quantizers.activation(layer, bits)
        if quantizer is None:
            self._add("Identity", [mark.input[0]], mark.output[0])
            return
        shift=0
        container = np.int8 if quantizer.q_min < 0 else np.uint8
        if container==np.int8 and SIGNED=='uint8':
            container=np.uint8; shift=128
        scale = self._constant(f"{name}.scale", np.float32(quantizer.scale))
        zero_point = self._constant(f"{name}.zero_point", container(quantizer.zero_point+shift))
        codes=f"{name}.rounded"
        self._add("QuantizeLinear", [mark.input[0], scale, zero_point], codes)
        lo,hi=quantizer.q_min+shift,quantizer.q_max+shift
        inf=np.iinfo(container)
        if CLIP=='always' or (lo,hi)!=(inf.min,inf.max):
            bounds = [self._constant(f"{name}.{end}", container(v)) for end,v in (('q_min',lo),('q_max',hi))]
            self._add("Clip", [codes, *bounds], f"{name}.codes")
            codes=f"{name}.codes"
        self._add("DequantizeLinear", [codes, scale, zero_point], mark.output[0])

    def _weight(self, mark: Node, layer: int) -> None:
        product, affine, bits = self._template.products[layer], self._affines[layer], self._w_bits[layer]
        if bits is None:
            self._float_weight(mark, product, affine)
            if affine: self._constant(product.bias_tensor, affine.offset.astype(np.float32))
            return
        found = self._quantizers.codes(layer, bits)
        axis, codes, scale = found.channel_axis, found.codes.numpy(), found.scale.numpy().astype(np.float64)
        if affine is not None:
            codes = codes * _along(np.where(affine.factor < 0, -1, 1).astype(np.int8), codes.ndim, axis)
            scale = scale * np.abs(affine.factor)
        if product.transposed:
            codes, axis = np.ascontiguousarray(codes.T), 1 - axis
        n=product.name
        scale=scale.astype(np.float32)
        names = [self._constant(f"{n}.weight.codes", codes), self._constant(f"{n}.weight.scale", scale), self._constant(f"{n}.weight.zero_point", np.zeros(scale.shape, np.int8))]
        self._add("DequantizeLinear", names, mark.output[0], axis=axis)
        if affine:
          ab=self._a_bits[layer]
          q=ab and self._quantizers.activation(layer,ab)
          if q and BIAS=='int':
            bs=(np.float32(q.scale)*scale).astype(np.float32)
            bq=np.clip(np.rint(affine.offset/bs),-2**31,2**31-1).astype(np.int32)
            self._add("DequantizeLinear",[self._constant(f"{n}.bias.codes",bq),self._constant(f"{n}.bias.scale",bs),self._constant(f"{n}.bias.zero_point",np.zeros(bs.shape,np.int32))],product.bias_tensor,axis=0)
          else:
            self._constant(product.bias_tensor, affine.offset.astype(np.float32))

    def _float_weight(self, mark, product, affine):
        if affine is None:
            self._add("Identity", [mark.input[0]], mark.output[0]); return
        n=product.name
        nd=len(self._tensors[mark.input[0]].dims) if mark.input[0] in self._tensors else 2
        ax = 1 if product.transposed else 0
        f=self._constant(f"{n}.weight.factor", _along(affine.factor.astype(np.float32), nd, ax))
        self._add("Mul",[mark.input[0],f],mark.output[0])

    def _constant(self, name, value):
        self._tensors[name] = numpy_helper.from_array(np.asarray(value), name)
        return name
    def _add(self, op, inputs, output, **attributes):
        self._nodes.append(helper.make_node(op, inputs, [output], name=output+'/'+op, **attributes))
    def _finish(self):
        marked=self._template.marked
        nodes=[]; needed={v.name for v in marked.graph.output}
        for node in reversed(self._nodes):
            if needed & set(node.output):
                nodes.append(node); needed|=set(node.input)
        tensors=[t for n,t in self._tensors.items() if n in needed]
        graph=helper.make_graph(nodes[::-1],'haq',marked.graph.input,marked.graph.output,tensors)
        return helper.make_model(graph,opset_imports=[o for o in marked.opset_import if o.domain!=MARKS],ir_version=marked.ir_version)

def _affine(product: Product, correction: Affine | None) -> Affine | None:
    if product.bias is None:
        return None
    steps = [step for step in (correction, product.norm) if step is not None]
    total = product.bias
    for s in steps: total=total.then(s)
    return total

def _along(values, ndim, axis):
    return values.reshape([-1 if d==axis else 1 for d in range(ndim)])
