"""Costs of stored policies, and of uniform bits, on several devices."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from haq.config import SearchConfig
from haq.costs.deployment import deployment_target, require_deployable
from haq.costs.pricing import PricedLayers
from haq.costs.simulation import policy_bits
from haq.costs.specialization import Candidate, PricedNetwork, Specialization, specialization
from haq.errors import UserError
from haq.experiment.loading import load_traced
from haq.experiment.policy_source import PolicySource, policy_source
from haq.layer_bits import uniform_bits
from haq.network.layers import Trace
from haq.runs.run_folder import POLICY, SUMMARY
from haq.tasks.metrics import ACCURACY, metric_in
from hardware_sim.catalog import load_accelerator
from hardware_sim.layer import Layer


def device_list(texts: Iterable[str]) -> list[str]:
    """Split device names that are repeated or separated by commas, and drop duplicates.

    Args:
        texts: Values of --compare.

    Returns:
        The names in their first order.

    Raises:
        UserError: A name is empty.

    Examples:
        >>> device_list(["bismo-edge,gpu-t4", "bismo-edge"])
        ['bismo-edge', 'gpu-t4']
    """
    names = [name.strip() for text in texts for name in text.split(",")]
    if not all(names):
        raise UserError("--compare has an empty name; write devices such as bismo-edge,gpu-t4")
    return list(dict.fromkeys(names))


def compare_policies(
    paths: Sequence[Path],
    config: SearchConfig,
    devices: Sequence[str],
    *,
    exclude_first_last: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> Specialization:
    """Compute the specialization matrix: costs of policies of one network on several devices.

    Args:
        paths: Policy files or folders of runs.
        config: Settings that the user gave.
        devices: Devices; if empty, those that the policies were searched for.
        exclude_first_last: Leave out the first and the last layer.
        notify: Receives a line for every callable that is called because the files name it.

    Returns:
        The costs.

    Raises:
        UserError: A policy does not fit the network.
        DeviceError: A device does not exist.
    """
    sources = [policy_source(path, config, notify=notify) for path in paths]
    priced = sources[0].priced()
    network = _network(sources[0].config, priced, exclude_first_last=exclude_first_last)
    for source in sources:
        require_deployable(network.target, source.policy.layers, layers=priced.layers, heads=priced.heads)
    names = [load_accelerator(each.config.hardware).name for each in sources]
    candidates = [
        _candidate(network.layers, source, name=name, hardware=hardware, model=network.model)
        for source, name, hardware in zip(sources, _names(sources), names, strict=True)
    ]
    chosen = device_list(devices) if devices else list(dict.fromkeys(each.config.hardware for each in sources))
    return specialization(network, candidates, [load_accelerator(device) for device in chosen])


def compare_uniform(
    config: SearchConfig, devices: Sequence[str], *, w_bits: int, a_bits: int, exclude_first_last: bool
) -> Specialization:
    """Compute the costs of uniform bits on several devices.

    Args:
        config: Settings that the user gave.
        devices: Devices, repeated or separated by commas.
        w_bits: Bits of the weights of every layer.
        a_bits: Bits of the input activations of every layer.
        exclude_first_last: Leave out the first and the last layer.

    Returns:
        The costs, with one policy.

    Raises:
        UserError: A name is empty.
        DeviceError: A device does not exist.
    """
    found = load_traced(config)
    network = _network(config, found, exclude_first_last=exclude_first_last)
    bits = uniform_bits(network.layers, w_bits=w_bits, a_bits=a_bits)
    require_deployable(network.target, bits, layers=found.layers, heads=found.heads)
    candidate = Candidate(f"uniform {w_bits}/{a_bits}", bits)
    return specialization(network, [candidate], [load_accelerator(device) for device in device_list(devices)])


def _network(config: SearchConfig, found: PricedLayers | Trace, *, exclude_first_last: bool) -> PricedNetwork:
    return PricedNetwork(
        model=config.model,
        layers=found.layers,
        refused=found.refused,
        objective=config.objective,
        batch=config.batch,
        exclude_first_last=exclude_first_last,
        target=deployment_target(config),
    )


def _candidate(layers: tuple[Layer, ...], source: PolicySource, *, name: str, hardware: str, model: str) -> Candidate:
    scores = source.policy.accuracy
    bits = policy_bits(layers, source.policy, model)
    return Candidate(name, bits, hardware, scores.get("report", scores.get("search")), _metric_name(source))


def _metric_name(source: PolicySource) -> str:
    """Return the name of the metric of a run; accuracy for a policy file alone."""
    summary = None if source.folder is None else source.folder.read_json(SUMMARY)
    return metric_in(summary).name if summary and "metric" in summary else ACCURACY.name


def _names(sources: Sequence[PolicySource]) -> list[str]:
    """Return distinct names of policies: the folder of a run, else the file; the whole path where these are equal."""
    paths = [source.path for source in sources if source.path is not None]
    short = [path.resolve().parent.name if path.name == POLICY else path.stem for path in paths]
    return [name if short.count(name) == 1 else str(path) for name, path in zip(short, paths, strict=True)]
