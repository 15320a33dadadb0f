"""Exporter of C sources."""

from collections.abc import Iterator
from dataclasses import replace

from haq.exporters.c.identifiers import symbol_of
from haq.exporters.c.program import ExportedProduct, Program, make_program
from haq.exporters.c.sizes import measured_sizes
from haq.exporters.deployable import Deployable
from haq.exporters.formats import Export, ExportedLayer, ExportOptions, FormatName
from haq.exporters.integer.lowering import integer_network

SOURCE, HEADER = ".c", ".h"


class CExporter:
    """Exporter of networks as C99: a source file and a header, which compute in integers alone.

    Attributes:
        format: Name of the format.
        suffix: Suffix of the source file.
        runtimes: Names of the runtimes.
    """

    format: FormatName = "c"
    suffix = SOURCE
    runtimes: tuple[str, ...] = ("c", "mcu")

    def build(self, network: Deployable, options: ExportOptions) -> Export:
        integers = integer_network(network, network.bits)
        program = make_program(replace(integers, name=network.network.priced.name), symbol=symbol_of(options.stem))
        return Export(
            format=self.format,
            files={SOURCE: program.source.encode(), HEADER: program.header.encode()},
            bits=network.bits,
            layers=tuple(_layers(network, program)),
            notes=tuple(_notes(program)),
            integers=integers,
            stem=options.stem,
        )


def _layers(network: Deployable, program: Program) -> Iterator[ExportedLayer]:
    products = {each.layer: each for each in program.products}
    for bits in network.policy.layers:
        product: ExportedProduct = products[bits.name]
        yield ExportedLayer(
            name=bits.name,
            w_bits=bits.w_bits,
            a_bits=bits.a_bits,
            storage=product.storage,
            weight_bytes=product.weight_bytes,
        )


def _notes(program: Program) -> Iterator[str]:
    weights = sum(each.weight_bytes for each in program.products)
    rest = program.constant_bytes - weights
    yield (
        f"constants: {weights:,} B of packed weights, {rest:,} B of biases, factors, tables and parameters; "
        f"arena: {program.arena_bytes:,} B"
    )
    yield measured_sizes(program)
    yield (
        "tensors that no layer reads, such as sums, are quantized too, with 8 bits: outputs differ slightly from "
        "those of the search"
    )
