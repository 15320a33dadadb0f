"""Writing of the operations of an integer network from steps and the storage of their tensors."""

from collections.abc import Mapping, Sequence

from haq.exporters.integer.grids import Grid
from haq.exporters.integer.network import (
    CodeTensor,
    Concatenation,
    Elementwise,
    IntegerNetwork,
    Operation,
    Pool,
    Product,
    Rearrangement,
    Table,
)
from haq.exporters.integer.products import product_codes
from haq.exporters.integer.reading.functions import IDENTITY, Function
from haq.exporters.integer.reading.steps import (
    ConcatenationStep,
    ElementwiseStep,
    PoolStep,
    ProductStep,
    RearrangementStep,
    Step,
    Steps,
    Value,
    values_read_by,
)
from haq.exporters.integer.storage import Calibrated, Choice, StoragePlan, read_value
from haq.quantization.linear import QuantizedWeight


class Writer:
    """Builder of an integer network.

    Args:
        steps: Steps of the network.
        plan: Storage of their tensors.
        weights: Weights of every layer.
        calibrated: Grids of the tensors that no layer quantizes.
    """

    def __init__(
        self,
        steps: Steps,
        plan: StoragePlan,
        *,
        weights: Sequence[QuantizedWeight],
        calibrated: Mapping[Calibrated, Grid],
    ) -> None:
        self._steps, self._plan, self._weights, self._calibrated = steps, plan, weights, calibrated
        self._tensors: dict[str, CodeTensor] = {}
        self._operations: list[Operation] = []
        self._grids: dict[str, Grid] = {}
        self._tables: dict[tuple[str, Function, Grid], str] = {}

    def network(self, name: str = "network") -> IntegerNetwork:
        """Return the integer network.

        Args:
            name: Name of the network.

        Returns:
            The network.
        """
        steps = self._steps
        choice = self._plan.stored[steps.input].choice
        assert choice is not None, "only means take over the grid of their input"
        self._add_tensor(steps.input, steps.input_shape, self._grid(choice))
        for step in steps.steps:
            self._write(step)
        output = self._read(steps.output, None)
        return IntegerNetwork(
            name=name,
            input=steps.input,
            output=output,
            tensors=self._tensors,
            operations=tuple(self._operations),
        )

    def _grid(self, choice: Choice) -> Grid:
        return self._calibrated[choice] if isinstance(choice, Calibrated) else choice

    def _add_tensor(self, name: str, shape: tuple[int, ...], grid: Grid) -> None:
        self._grids[name] = grid
        self._tensors[name] = CodeTensor(
            name=name,
            shape=shape,
            scale=grid.scale,
            zero_point=grid.zero_point,
            q_min=grid.q_min,
            q_max=grid.q_max,
        )

    def _read(self, value: Value, choice: Choice | None) -> str:
        """Return the tensor that holds a value in a grid, or in any of 8 bits; a table computes it if there is none."""
        stored = self._plan.stored[value.root]
        is_stored = value.function == stored.function
        if choice is not None:
            grid = self._grid(choice)
        elif is_stored:
            return value.root
        else:
            grid = self._grid(self._plan.read[value.root, value.function])
        if is_stored and grid == self._grids[value.root]:
            return value.root
        return self._table(value.root, IDENTITY if is_stored else value.function, grid)

    def _table(self, source: str, function: Function, grid: Grid) -> str:
        key = (source, function, grid)
        if key not in self._tables:
            output = f"{source}.{len(self._tables)}"
            codes = self._grids[source].table(function, grid)
            self._add_tensor(output, self._tensors[source].shape, grid)
            self._operations.append(Table(source=source, output=output, codes=codes))
            self._tables[key] = output
        return self._tables[key]

    def _write(self, step: Step) -> None:
        stored, wanted = self._plan.stored[step.output], self._plan.wanted[step.output]
        sources = tuple(self._read(read_value(step, value, stored.function), wanted) for value in values_read_by(step))
        grid = self._grids[sources[0]] if stored.choice is None else self._grid(stored.choice)
        self._add_tensor(step.output, step.shape, grid)
        low, high = grid.bounds(stored.function)
        self._operations.append(self._operation(step, sources, low, high))

    def _operation(self, step: Step, sources: tuple[str, ...], low: int, high: int) -> Operation:
        match step:
            case ProductStep():
                return self._product(step, sources[0], low, high)
            case ElementwiseStep():
                return Elementwise(
                    operator=step.operator, sources=(sources[0], sources[1]), output=step.output, low=low, high=high
                )
            case PoolStep():
                return Pool(
                    operator=step.operator,
                    source=sources[0],
                    output=step.output,
                    kernel=step.kernel,
                    stride=step.stride,
                    padding=step.padding,
                )
            case ConcatenationStep():
                return Concatenation(sources=sources, output=step.output)
            case RearrangementStep():
                return Rearrangement(
                    operator=step.operator,
                    source=sources[0],
                    output=step.output,
                    padding=step.padding,
                    stride=step.stride,
                )

    def _product(self, step: ProductStep, source: str, low: int, high: int) -> Product:
        weight = None if step.layer is None else self._weights[step.layer]
        codes = product_codes(step, weight, self._grids[source].scale)
        return Product(
            layer=step.name,
            source=source,
            output=step.output,
            weights=codes.weights,
            w_bits=codes.w_bits,
            w_scale=codes.w_scale,
            bias=codes.bias,
            low=low,
            high=high,
            stride=step.stride,
            padding=step.padding,
            dilation=step.dilation,
            groups=step.groups,
            shift=codes.shift,
        )
