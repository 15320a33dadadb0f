"""Rows of the layers of a run: shape, bits, cost, bound, sensitivity, error and reason."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from envs.choices import Choices
from haq.costs.deployment import end_layers
from haq.costs.pricing import BASELINE_BITS, PricedLayers
from haq.formatting import format_cost, format_count, percent
from haq.layer_bits import LayerBits
from haq.reporting.explanation.explain import plateaus
from haq.reporting.explanation.findings import Plateau
from haq.reporting.page.reasons import Facts, OneBitLess, tags, why
from haq.reporting.page.runs import ReportedRun
from haq.reporting.plots.style import MARKS
from haq.runs.layer_errors import LayerError
from hardware_sim.cost import width_index
from hardware_sim.layer import Layer

REFERENCE_BITS = 4
"""Width at which the sensitivities of layers are compared."""
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One layer as the page shows it; texts are empty where nothing is known.

    Attributes:
        number: Position from 1.
        name: Name of the layer.
        kind: Kind of the layer.
        shape: Channels, kernel and size.
        w_bits: Bits of the weights; `float` for none.
        a_bits: Bits of the input; `float` for none.
        cost: Cost in the objective.
        share: Share in the cost of the policy.
        bound: What limits the latency.
        sensitivity: Expected error at 4 bits, relative to the median layer.
        added: Relative error that the layer adds to its output.
        tags: Properties that explain the bits, in a word or two.
        why: Explanation in a sentence.
    """

    number: int
    name: str
    kind: str
    shape: str
    w_bits: str
    a_bits: str
    cost: str
    share: str
    bound: str
    sensitivity: str
    added: str
    tags: tuple[str, ...]
    why: str


def layer_rows(run: ReportedRun) -> tuple[LayerRow, ...]:
    """Describe all layers of a run.

    Args:
        run: The run.

    Returns:
        One row per layer, in the order of execution.
    """
    layers, priced = run.policy.layers, run.priced
    errors: Sequence[LayerError | None] = run.errors.layers if run.errors else [None] * len(layers)
    costs = None if priced is None else _costs(run, priced)
    rows = []
    for place, (bits, error, facts) in enumerate(zip(layers, errors, layer_facts(run), strict=True)):
        cost = None if costs is None else float(costs[place])
        rows.append(
            LayerRow(
                number=place + 1,
                name=bits.name,
                kind=MARKS[bits.kind].label,
                shape="" if priced is None else shape_text(priced.layers[place]),
                w_bits=_bits_text(bits.w_bits),
                a_bits=_bits_text(bits.a_bits),
                cost="" if cost is None else format_cost(run.objective, cost),
                share="" if facts.share is None else percent(facts.share),
                bound=facts.bound or "",
                sensitivity="" if facts.sensitivity is None else f"{facts.sensitivity:.2g}",
                added="" if error is None or error.added is None else f"{error.added:.1e}",
                tags=tags(facts),
                why=why(facts),
            )
        )
    return tuple(rows)


def shape_text(layer: Layer) -> str:
    """Describe the shape of a layer in one line.

    Args:
        layer: The layer.

    Returns:
        Kernel, channels, output size, weights and MACs.

    Examples:
        >>> shape_text(Layer(name="stem", kind="conv", c_in=3, c_out=32, kernel=(3, 3), output_size=(112, 112)))
        '3x3, 3 → 32 channels, output 112x112, 864 weights, 10.8 M MAC'
    """
    kernel = "x".join(map(str, layer.kernel))
    parts = [f"{layer.c_in} → {layer.c_out} channels"]
    if layer.kernel != (1, 1):
        parts.insert(0, kernel)
    if layer.output_size != (1, 1):
        parts.append(f"output {'x'.join(map(str, layer.output_size))}")
    parts += [f"{format_count(layer.weight_count)} weights"] if layer.weight_count else []
    return ", ".join([*parts, f"{format_count(layer.macs)} MAC"])


def layer_facts(run: ReportedRun) -> Iterator[Facts]:
    """Collect what is known about the bits of every layer.

    Args:
        run: The run.

    Yields:
        The facts of each layer, in the order of execution.
    """
    layers, priced, choice = run.policy.layers, run.priced, run.choice
    pins, levels = _pins(run), _levels(layers)
    sensitivities, expected = _sensitivities(run)
    costs = None if priced is None else _costs(run, priced)
    relative = None if priced is None else _relative(_costs(run, priced, uniform=BASELINE_BITS))
    same_cost = {} if choice is None else {each.layer: each for each in _plateaus(run, choice)}
    for place, bits in enumerate(layers):
        plateau = same_cost.get(bits.name)
        yield Facts(
            bits.w_bits,
            bits.a_bits,
            run.objective,
            pinned=pins[place],
            level=levels[place],
            share=None if costs is None else float(costs[place] / (costs.sum() or 1.0)),
            cost=None if relative is None else float(relative[place]),
            bound=None if priced is None else priced.table.bound(place, bits.w_bits, bits.a_bits),
            sensitivity=None if sensitivities is None else float(sensitivities[place]),
            free=None if plateau is None or plateau.most == plateau.bits else plateau.most,
            idle=None if plateau is None or plateau.least == plateau.bits else plateau.least,
            less=() if costs is None else tuple(_one_bit_less(run, place, float(costs.sum()), expected)),
        )


def _bits_text(bits: int | None) -> str:
    return "float" if bits is None else str(bits)


def _costs(run: ReportedRun, priced: PricedLayers, *, uniform: int | None = None) -> FloatArray:
    """Return the costs of the layers in the objective, [layer], with the policy's or with uniform bits."""
    table = priced.table.of(run.objective)
    bits = [(each.w_bits, each.a_bits) if uniform is None else (uniform, uniform) for each in run.policy.layers]
    return np.array([table[place, width_index(w), width_index(a)] for place, (w, a) in enumerate(bits)])


def _relative(values: FloatArray) -> FloatArray:
    """Divide values by their median; by 1 if that is 0."""
    return np.asarray(values / (float(np.median(values)) or 1.0))


def _sensitivities(run: ReportedRun) -> tuple[FloatArray | None, float | None]:
    """Return the expected errors at 4 bits over that of the median layer, and the expected error of the policy."""
    if run.errors is None or not run.errors.has_expected:
        return None, None
    at_four = [_expected(each, REFERENCE_BITS, REFERENCE_BITS) for each in run.errors.layers]
    pairs = zip(run.errors.layers, run.policy.layers, strict=True)
    return _relative(np.array(at_four)), sum(_expected(error, bits.w_bits, bits.a_bits) for error, bits in pairs)


def _expected(error: LayerError, w_bits: int | None, a_bits: int | None) -> float:
    """Return the output error that the search expected of a layer."""
    assert error.weights is not None
    assert error.input is not None
    parts = ((error.weights, w_bits), (error.input, a_bits))
    return sum(losses[bits - 1] for losses, bits in parts if bits is not None)


def _one_bit_less(run: ReportedRun, place: int, total: float, expected: float | None) -> Iterator[OneBitLess]:
    """Yield the effects of taking one bit from the weights and from the input of a layer, where that is allowed."""
    priced, choice, bits = run.priced, run.choice, run.policy.layers[place]
    assert priced is not None
    if choice is None or bits.w_bits is None or bits.a_bits is None:
        return
    table, allowed = priced.table.of(run.objective), choice.allowed[choice.decision_of_layer[place]]
    now = (bits.w_bits, bits.a_bits)
    for part, (w_bits, a_bits) in (("weight", (now[0] - 1, now[1])), ("input", (now[0], now[1] - 1))):
        if min(w_bits, a_bits) >= 1 and allowed[w_bits - 1, a_bits - 1]:
            before, after = (table[place, width_index(w), width_index(a)] for w, a in (now, (w_bits, a_bits)))
            added = None
            if expected:
                assert run.errors is not None
                error = run.errors.layers[place]
                added = (_expected(error, w_bits, a_bits) - _expected(error, *now)) / expected
            yield OneBitLess(part, float(before - after) / (total or 1.0), added)


def _plateaus(run: ReportedRun, choice: Choices) -> Iterator[Plateau]:
    """Yield layers where other bits cost the same; none for a policy with layers in float."""
    if None not in (*run.policy.w_bits, *run.policy.a_bits):
        bits = choice.decisions(np.array([run.policy.w_bits, run.policy.a_bits], dtype=np.int64).T)
        yield from plateaus(choice, bits)


def _levels(layers: Sequence[LayerBits]) -> list[int]:
    """Return whether each layer has more (1), as many (0) or fewer (-1) bits than the median layer."""
    sums = np.array([(each.w_bits or BASELINE_BITS) + (each.a_bits or BASELINE_BITS) for each in layers])
    return [int(each) for each in np.sign(sums - np.median(sums))]


def _pins(run: ReportedRun) -> list[str | None]:
    """Return why the bits of each layer could not be chosen; None where they could."""
    config, priced, choice = run.config, run.priced, run.choice
    ends = frozenset[str]() if priced is None else end_layers(priced.layers, priced.heads)
    found: list[str | None] = []
    for place, bits in enumerate(run.policy.layers):
        owner = None if priced is None else priced.layers[place].tied_to
        reason = None
        if owner is not None:
            reason = f"Shares the bits of {owner}"
        elif bits.name in config.pin:
            reason = f"Pinned by --pin {bits.name}={config.pin[bits.name]}"
        elif config.first_last_bits is not None and bits.name in ends:
            reason = f"Pinned to {config.first_last_bits} bits as an end of the network (--first-last-bits)"
        elif choice is not None and choice.allowed[choice.decision_of_layer[place]].sum() == 1:
            reason = "The rules of the device or target leave one choice"
        found.append(reason)
    return found
