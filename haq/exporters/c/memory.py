"""Where the tensors of a network lie: in the arena, or in the arrays of the caller."""

from collections.abc import Mapping
from dataclasses import dataclass

from haq.exporters.c.arena import Buffer, plan_memory
from haq.exporters.c.fragments import count_of, image_shape
from haq.exporters.c.products import product_code
from haq.exporters.c.tensor_operations import SUM_SCRATCH_BYTES
from haq.exporters.integer.network import (
    Elementwise,
    IntegerNetwork,
    Operation,
    Product,
    Rearrangement,
    Table,
    sources_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Memory of a network.

    Attributes:
        pointers: C expressions of the tensors.
        scratch: C expressions of the working memory of operations, by their outputs.
        images: Shapes of the images whose order flattened tensors have kept in memory.
        arena_bytes: Bytes of the arena.
    """

    pointers: Mapping[str, str]
    scratch: Mapping[str, str]
    images: Mapping[str, tuple[int, ...]]
    arena_bytes: int


def plan_tensors(network: IntegerNetwork) -> Memory:
    """Plan the memory of a network.

    Args:
        network: Network.

    Returns:
        The plan.
    """
    images = kept_images(network)
    owners = _owners(network, images)
    scratch = {f"scratch of {each.output}": each for each in network.operations if _scratch_bytes(each, network)}
    buffers = [
        Buffer(name=name, size=_scratch_bytes(each, network), first=at, last=at)
        for at, each in enumerate(network.operations)
        for name in [f"scratch of {each.output}"]
        if name in scratch
    ]
    outside = {owners[network.input]: "input", owners[network.output]: "output"}
    plan = plan_memory([*buffers, *_tensor_buffers(network, owners, frozenset(outside))])
    places = {name: f"(int8_t *)haq_arena + {offset}" for name, offset in plan.offsets.items()} | outside
    return Memory(
        pointers={name: places[owner] for name, owner in owners.items()},
        scratch={each.output: f"haq_arena + {plan.offsets[name] // 4}" for name, each in scratch.items()},
        images=images,
        arena_bytes=plan.size,
    )


def traced_tensors(network: IntegerNetwork) -> list[tuple[str, int]]:
    """Return the tensors that `HAQ_TRACE` receives: all but flattened images that stay where they are.

    Args:
        network: Network.

    Returns:
        Names and numbers of codes, in order.
    """
    kept = kept_images(network)
    written = [each.output for each in network.operations if each.output not in kept]
    return [(name, count_of(network.tensors[name])) for name in written]


def kept_images(network: IntegerNetwork) -> dict[str, tuple[int, ...]]:
    """Find the flattened images that only products read, whose weights can follow the order of the image.

    Args:
        network: Network.

    Returns:
        Shapes of the images by the names of the flattened tensors; images of one pixel have one order only.
    """
    found: dict[str, tuple[int, ...]] = {}
    for operation in network.operations:
        if isinstance(operation, Rearrangement) and operation.operator == "flatten":
            readers = [each for each in network.operations if operation.output in sources_of(each)]
            channels, height, width = image_shape(network.tensors[operation.source])
            is_free = all(isinstance(each, Product) and each.weights.ndim == 2 for each in readers)
            if operation.output != network.output and (is_free or height * width == 1 or channels == 1):
                found[operation.output] = (channels, height, width)
    return found


def _owners(network: IntegerNetwork, images: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """Return for every tensor the first one that lies at the same place."""
    owners = {network.input: network.input}
    last = _last_uses(network)
    for at, operation in enumerate(network.operations):
        owners[operation.output] = operation.output
        if operation.output in images:
            owners[operation.output] = owners[sources_of(operation)[0]]
            continue
        for source in _replaceable(operation, network):
            group = [name for name, owner in owners.items() if owner == owners[source]]
            is_over = max(last[name] for name in group) == at
            if is_over and network.input not in group and operation.output != network.output:
                owners[operation.output] = owners[source]
                break
    return owners


def _replaceable(operation: Operation, network: IntegerNetwork) -> tuple[str, ...]:
    """Return the inputs whose codes an operation may overwrite with its output, one by one."""
    if not isinstance(operation, Elementwise | Table):
        return ()
    shape = network.tensors[operation.output].shape
    return tuple(each for each in sources_of(operation) if network.tensors[each].shape == shape)


def _last_uses(network: IntegerNetwork) -> dict[str, int]:
    last = {operation.output: at for at, operation in enumerate(network.operations)}
    last[network.input] = 0
    for at, operation in enumerate(network.operations):
        last.update(dict.fromkeys(sources_of(operation), at))
    last[network.output] = len(network.operations)
    return last


def _tensor_buffers(network: IntegerNetwork, owners: Mapping[str, str], outside: frozenset[str]) -> list[Buffer]:
    last = _last_uses(network)
    first = {operation.output: at for at, operation in enumerate(network.operations)}
    members = {owner: [name for name in owners if owners[name] == owner] for owner in dict.fromkeys(owners.values())}
    return [
        Buffer(
            name=owner,
            size=count_of(network.tensors[owner]),
            first=first[owner],
            last=max(last[name] for name in names),
        )
        for owner, names in members.items()
        if owner not in outside
    ]


def _scratch_bytes(operation: Operation, network: IntegerNetwork) -> int:
    if isinstance(operation, Product):
        return product_code(operation, network).scratch_bytes
    is_sum = isinstance(operation, Elementwise) and operation.operator == "add"
    return SUM_SCRATCH_BYTES if is_sum else 0
