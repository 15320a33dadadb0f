"""Exporter of packed files."""

from safetensors.torch import save

from haq.exporters.deployable import Deployable
from haq.exporters.formats import NO_WEIGHTS, Export, ExportedLayer, ExportOptions, FormatName
from haq.exporters.packed.contents import PACKED, SCALE, SHAPE, Contents, make_contents
from haq.exporters.packed.header import KEY

FLOAT_BYTES = 4
REASON = "codes are unpacked to floats, which torch multiplies"


class PackedExporter:
    """Exporter of weights that are packed to their width, for `haq.load_packed`.

    Attributes:
        format: Name of the format.
        suffix: Suffix of the file.
        runtimes: Names of the runtimes.
    """

    format: FormatName = "packed"
    suffix = ".safetensors"
    runtimes: tuple[str, ...] = ("torch",)

    def build(self, network: Deployable, options: ExportOptions) -> Export:  # noqa: ARG002
        contents = make_contents(network)
        # One entry: the file would be another one each time if there were several, which have no order.
        content = save(contents.tensors, metadata={KEY: contents.header.to_json()})
        return Export(
            format=self.format,
            files={self.suffix: content},
            bits=network.bits,
            layers=tuple(_layer(contents, place) for place in range(len(contents.header.layers))),
            notes=(_sizes(contents, len(content)),),
        )


def _layer(contents: Contents, place: int) -> ExportedLayer:
    header = contents.header
    bits, layer, owner = header.policy.layers[place], header.layers[place], header.owners[place]
    packed = contents.tensors.get(f"{bits.name}.{PACKED}")
    size, storage = FLOAT_BYTES * layer.count, "float32"
    if layer.product is not None:
        size, storage = 0, NO_WEIGHTS
    elif owner != place:
        size, storage = 0, f"that of {header.policy.layers[owner].name}"
    elif packed is not None:
        size, storage = packed.nbytes, f"packed {bits.w_bits} bits"
    return ExportedLayer(
        name=bits.name,
        w_bits=bits.w_bits,
        a_bits=bits.a_bits,
        storage=storage,
        weight_bytes=size,
        is_integer=False,
        reason=REASON,
    )


def _sizes(contents: Contents, size: int) -> str:
    """Return a line with the sizes of the parts of a file."""
    words, scales, all_tensors = (
        contents.bytes_of(PACKED),
        contents.bytes_of(SCALE, SHAPE),
        sum(tensor.nbytes for tensor in contents.tensors.values()),
    )
    rest = all_tensors - words - scales
    return (
        f"{words:,} B of packed weights, {scales:,} B of scales, {rest:,} B of biases and what stays in float, "
        f"{size - all_tensors:,} B of header"
    )
