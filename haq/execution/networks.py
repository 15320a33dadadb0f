"""Calls of users' networks without side effects on their inputs, on weights or on torch's state."""

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode
from torch.utils import checkpoint

from haq.errors import UserError
from haq.execution.structures import Structure, describe, map_tensors, spread, to_device
from haq.execution.user_code import one_line, torch_state_kept

NETWORK_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError)
"""Exceptions of networks on inputs of another form than they expect."""


def run_network(network: nn.Module, inputs: Structure, mode: AbstractContextManager[Any] | None = None) -> Structure:
    """Call a network on a copy of its inputs, and copy its outputs.

    A network may write into its input, return a buffer that it writes into again, change torch's global state, or have
    torch renormalize embeddings in place (`max_norm`). Inputs, earlier outputs, state and weights are unchanged
    afterwards. Gradient checkpointing is disabled, since the recomputation in the backward pass would not run under the
    mode.

    Args:
        network: Network, called with a tuple as positional arguments, with a dict as keyword arguments.
        inputs: Batch on the network's device; see `haq.execution.structures`.
        mode: Torch function mode that is active while the network runs.

    Returns:
        Outputs of the network.
    """
    return call_network(network, *spread(inputs), mode)


def call_network(
    network: nn.Module,
    inputs: tuple[Structure, ...],
    named: Mapping[str, Structure],
    mode: AbstractContextManager[Any] | None = None,
) -> Structure:
    """Call a network with positional and keyword arguments; see `run_network`.

    Args:
        network: Network.
        inputs: Positional arguments.
        named: Keyword arguments.
        mode: Torch function mode that is active while the network runs.

    Returns:
        Outputs of the network.
    """
    # An exported program holds operations on tensors only; it has no state of torch to restore.
    state = nullcontext() if torch.compiler.is_exporting() else torch_state_kept()
    with state, no_checkpointing(), NetworkGuard(), mode or nullcontext():
        copied, copied_named = map_tensors(torch.clone, inputs), map_tensors(torch.clone, dict(named))
        return map_tensors(torch.clone, network(*copied, **copied_named))


def runner(network: nn.Module) -> Callable[[Structure], Structure]:
    """Convert a network to a function.

    Args:
        network: Network.

    Returns:
        Function from inputs, on any device, to outputs.
    """
    device = next(network.parameters()).device
    return lambda inputs: run_network(network, to_device(inputs, device))


def switch_to_eval(network: nn.Module) -> None:
    """Put a network into evaluation mode; torch's state, which the network's `train` may change, is restored.

    Args:
        network: Network.
    """
    with torch_state_kept():
        network.eval()  # the result is not used: overrides of train() often return None


def materialize(network: nn.Module, example: Structure, *, seed: int = 0) -> None:
    """Initialize the parameters of lazy modules by running the network once; networks without lazy modules are not run.

    The caller's random state is unchanged.

    Args:
        network: Network.
        example: Input of one item.
        seed: Seed of the initialization.
    """
    if not any(map(is_lazy, chain(network.parameters(), network.buffers()))):
        return
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        run_network(network, example)


def require_runs(model: nn.Module, example: Structure) -> None:
    """Require that a network runs on an input; lazy modules are initialized.

    Args:
        model: Network.
        example: Input of one item, [1, ...].

    Raises:
        UserError: It does not run.
    """
    try:
        materialize(model, example)
        with torch.no_grad():
            run_network(model, example)
    except NETWORK_FAILURES as error:
        raise UserError(
            f"the model does not run on an input of shape {describe(example)}: {one_line(error)}"
        ) from error


def require_weights(network: nn.Module) -> None:
    """Require float32 parameters, and finite values in parameters and buffers.

    Args:
        network: Network to check.

    Raises:
        UserError: A parameter is on the meta device or not float32, or `broken_tensors` finds a tensor; it is named.
    """
    for name, parameter in network.named_parameters():
        if parameter.is_meta and not is_lazy(parameter):
            raise UserError(f"the network has no values in {name}, which is on the meta device; load its weights first")
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            raise UserError(
                f"the network has {parameter.dtype} weights ({name}); "
                "haq quantizes float32 networks: give it as model.float()"
            )
    buffers = dict(network.named_buffers())
    broken = broken_tensors({**dict(network.named_parameters()), **buffers}, buffers)
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        raise UserError(f"the network has NaN or infinity in {broken[0]}{more}; train it or load its weights again")


def broken_tensors(tensors: Mapping[str, Tensor], buffers: Collection[str]) -> list[str]:
    """Find tensors that contain NaN or infinity.

    Infinity is allowed in buffers, such as attention masks, but not in the statistics of batch norms. Lazy tensors have
    no values yet and are skipped.

    Args:
        tensors: Parameters and buffers by name.
        buffers: Names of the buffers.

    Returns:
        Names of the broken tensors.
    """
    return [name for name, tensor in tensors.items() if not is_lazy(tensor) and not _is_sound(name, tensor, buffers)]


def _is_sound(name: str, tensor: Tensor, buffers: Collection[str]) -> bool:
    if tensor.is_meta or not tensor.is_floating_point():
        return True
    may_be_infinite = name in buffers and not name.endswith(("running_mean", "running_var"))
    return not bool(tensor.isnan().any()) if may_be_infinite else bool(tensor.isfinite().all())


class NetworkGuard(TorchFunctionMode):
    """Function mode in which `max_norm` renormalizes a copy of the embedding, and inference mode acts as no_grad.

    Tensors computed in inference mode, such as cached quantized weights, could otherwise not be used in training.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.is_inference_mode_enabled():
            gradients = torch.is_grad_enabled()
            with torch.inference_mode(mode=False), torch.set_grad_enabled(gradients), self:
                return func(*args, **kwargs)
        if func not in (F.embedding, F.embedding_bag):
            return func(*args, **kwargs)
        bound = inspect.signature(func).bind(*args, **kwargs)
        if bound.arguments.get("max_norm") is not None:
            bound.arguments["weight"] = bound.arguments["weight"].clone()
        return func(*bound.args, **bound.kwargs)


@contextmanager
def no_checkpointing() -> Iterator[None]:
    """Make `torch.utils.checkpoint` call its functions directly in the context, however a network imported it.

    Yields:
        None.
    """
    original = checkpoint._checkpoint_impl
    checkpoint._checkpoint_impl = _call
    try:
        yield
    finally:
        checkpoint._checkpoint_impl = original


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], **_settings: Any) -> Any:
    return function(*args, **kwargs)
