"""Execution of packed files in torch."""

from collections.abc import Iterator
from copy import deepcopy

from haq.evaluation.chunks import in_chunks
from haq.execution.networks import runner
from haq.execution.structures import Structure
from haq.exporters.deployable import Deployable
from haq.exporters.formats import Export, FormatName
from haq.exporters.packed.exporter import REASON
from haq.exporters.packed.model import packed_model
from haq.exporters.packed.reading import parse_packed, unpacked
from haq.exporters.protocols import LayerCodes
from haq.tasks.predictions import Runner


class PackedRuntime:
    """Packed files, loaded and run in torch.

    Attributes:
        name: Name of the runtime.
        format: Format of the files.
        max_images: None: it is fast.
    """

    name = "torch"
    format: FormatName = "packed"
    max_images: int | None = None

    def missing(self) -> str | None:
        return None

    def runner(self, export: Export, network: Deployable) -> Runner:
        model = deepcopy(network.network.priced.model).cpu().eval()
        loaded = runner(packed_model(model, parse_packed(export.main)))
        return lambda inputs: in_chunks(loaded, inputs)

    def layer_codes(self, export: Export, network: Deployable, inputs: Structure) -> Iterator[LayerCodes]:  # noqa: ARG002
        """Compare the weights of every layer with those of its quantizer, as nothing is computed in integers."""
        contents = parse_packed(export.main)
        for place, bits in enumerate(network.policy.layers):
            found = unpacked(contents, place)
            if found is None or bits.w_bits is None:
                has_weights = network.quantizers.has_weights(place)
                reason = "its weights are floats" if has_weights else "it has no weights"
                yield LayerCodes(layer=bits.name, is_integer=False, reason=reason)
                continue
            differing = (found.codes != network.quantizers.codes(place, bits.w_bits).codes.cpu()).sum()
            yield LayerCodes(
                layer=bits.name,
                is_integer=False,
                reason=REASON,
                compared=found.codes.numel(),
                differing=int(differing),
            )
