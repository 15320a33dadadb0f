"""C program of an integer network."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from haq.exporters.c.fragments import Fragment, Scope, count_of, image_shape, name_of
from haq.exporters.c.identifiers import SYMBOL, identifier, plain
from haq.exporters.c.kernel_sources import fill_template, kernel_sources
from haq.exporters.c.memory import Memory, plan_tensors
from haq.exporters.c.product_fragments import emit_product
from haq.exporters.c.products import product_code
from haq.exporters.c.tensor_operations import (
    emit_concatenation,
    emit_elementwise,
    emit_pool,
    emit_rearrangement,
    emit_table,
)
from haq.exporters.integer.network import (
    CodeTensor,
    Concatenation,
    Elementwise,
    IntegerNetwork,
    Operation,
    Pool,
    Product,
    Table,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedProduct:
    """Weights of a layer in a program.

    Attributes:
        layer: Name of the layer.
        w_bits: Bits of the policy.
        storage: How they are stored.
        weight_bytes: Their bytes.
    """

    layer: str
    w_bits: int
    storage: str
    weight_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """Source and header of a network.

    Attributes:
        source: The source file.
        header: The header.
        arena_bytes: Bytes of static working memory.
        constant_bytes: Bytes of weights, biases, factors, tables and parameters.
        products: Layers, in order.
        input_bytes: Bytes of the input of the network.
        symbol: Identifier that the names of the network begin with.
    """

    source: str
    header: str
    arena_bytes: int
    constant_bytes: int
    products: tuple[ExportedProduct, ...]
    input_bytes: int
    symbol: str


def make_program(network: IntegerNetwork, *, symbol: str = SYMBOL) -> Program:
    """Write the C program of a network.

    Args:
        network: Network.
        symbol: Identifier that the names of functions and macros begin with, different for each network of a program.

    Returns:
        The program; equal networks give equal texts.

    Raises:
        UserError: A layer cannot be computed in 32 bits.
    """
    memory = plan_tensors(network)
    operations = network.operations
    fragments = [_fragment(each, _scope(at, network, memory)) for at, each in enumerate(operations)]
    products = tuple(
        ExportedProduct(layer=each.layer, w_bits=each.w_bits, storage=part.storage, weight_bytes=part.weight_bytes)
        for each, part in zip(operations, fragments, strict=True)
        if isinstance(each, Product)
    )
    return Program(
        source=_source(network, memory, fragments, symbol=symbol),
        header=_header(network, memory.arena_bytes, symbol=symbol),
        arena_bytes=memory.arena_bytes,
        constant_bytes=sum(each.constant_bytes for each in fragments),
        products=products,
        input_bytes=count_of(network.tensors[network.input]),
        symbol=symbol,
    )


def _scope(at: int, network: IntegerNetwork, memory: Memory) -> Scope:
    operation = network.operations[at]
    return Scope(
        name=identifier(f"op{at}", name_of(operation)),
        network=network,
        pointers=memory.pointers,
        scratch=memory.scratch.get(operation.output, ""),
        has_any_factors=_has_any_factors(network),
        images=memory.images,
    )


def _has_any_factors(network: IntegerNetwork) -> bool:
    """Whether a product of the network needs the general conversion of sums to codes."""
    return any(product_code(each, network).has_any_factors for each in network.operations if isinstance(each, Product))


def _fragment(operation: Operation, scope: Scope) -> Fragment:
    if isinstance(operation, Product):
        image = scope.images.get(operation.source)
        return emit_product(product_code(operation, scope.network, image), scope)
    if isinstance(operation, Elementwise):
        return emit_elementwise(operation, scope)
    if isinstance(operation, Pool):
        return emit_pool(operation, scope)
    if isinstance(operation, Concatenation):
        return emit_concatenation(operation, scope)
    return emit_table(operation, scope) if isinstance(operation, Table) else emit_rearrangement(operation, scope)


def _source(network: IntegerNetwork, memory: Memory, fragments: list[Fragment], *, symbol: str) -> str:
    calls = [_call(network, at, memory, part) for at, part in enumerate(fragments) if part.call]
    if network.output == network.input:
        calls = [f"memcpy(output, input, {count_of(network.tensors[network.input])});"]
    arena = f"static int32_t haq_arena[{memory.arena_bytes // 4}];\n" if memory.arena_bytes else ""
    return fill_template(
        "network.c.in",
        symbol=symbol,
        title=plain(network.name),
        layers="\n".join(_comment(each, part) for each, part in zip(network.operations, fragments, strict=True)),
        kernels=kernel_sources(
            (name for part in fragments for name in part.kernels), has_any_factors=_has_any_factors(network)
        ),
        constants="\n".join(part.constants for part in fragments if part.constants),
        arena=arena,
        calls=textwrap.indent("\n".join(calls), "    "),
    )


def _call(network: IntegerNetwork, at: int, memory: Memory, part: Fragment) -> str:
    operation = network.operations[at]
    name = identifier(f"op{at}", name_of(operation))
    count = count_of(network.tensors[operation.output])
    trace = f'HAQ_TRACE("{name}", {memory.pointers[operation.output]}, {count})'
    return f'HAQ_BEGIN("{name}")\n{part.call}\nHAQ_END("{name}")\n{trace}'


def _comment(operation: Operation, part: Fragment) -> str:
    kind = type(operation).__name__.lower()
    return f" *   {plain(name_of(operation))}: {part.storage or kind}"


def _header(network: IntegerNetwork, arena_bytes: int, *, symbol: str) -> str:
    source, output = network.tensors[network.input], network.tensors[network.output]
    values: dict[str, object] = {**_values("input", source), **_values("output", output)}
    names = {"symbol": symbol, "SYMBOL": symbol.upper(), "title": plain(network.name)}
    return fill_template("network.h.in", **names, arena_size=arena_bytes, **values)


def _values(side: str, tensor: CodeTensor) -> Mapping[str, object]:
    channels, height, width = image_shape(tensor)
    return {
        f"{side}_height": height,
        f"{side}_width": width,
        f"{side}_channels": channels,
        f"{side}_size": channels * height * width,
        f"{side}_scale": f"{np.float32(tensor.scale):.9e}",
        f"{side}_zero": tensor.zero_point,
        f"{side}_min": tensor.q_min,
        f"{side}_max": tensor.q_max,
    }
