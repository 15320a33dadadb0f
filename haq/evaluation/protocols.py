"""Protocols of evaluation: engines that run a network, and stores that keep evaluations."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from haq.evaluation.float_run import FloatRuns
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.tasks.predictions import Runner


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a policy is worth on one split."""

    accuracy: float
    """The task's score; a fraction in [0, 1] for accuracies."""
    divergence: float
    """Mean KL divergence, in nats, of the quantized network's outputs from the float network's."""
    noise: float
    """Power of what quantization adds to the outputs over that of the float outputs, both about the mean of an image's
    outputs: 1 / SQNR. 0.01 is 20 dB."""


class Engine(Protocol):
    """Runs a network with a policy."""

    name: str
    images_per_policy: int
    """Images that are run for a policy before its first output."""

    @property
    def model(self) -> nn.Module:
        """The float network."""
        ...

    def runner(self, bits: PolicyBits | None) -> Runner:
        """Return the network with these bits, or in float, as a function from inputs, on any device, to outputs.

        The function stays valid when runners of other policies are asked for.
        """
        ...


@runtime_checkable
class CorrectingEngine(Engine, Protocol):
    """Engine that corrects the shift which quantization brings into a network's statistics."""

    def corrections(self, bits: PolicyBits) -> Corrections:
        """Return the corrections of a policy."""
        ...

    def store(self, bits: PolicyBits, corrections: Corrections) -> None:
        """Use these corrections for a policy instead of finding them."""
        ...


class Kept(Protocol):
    """Evaluations that outlive a session."""

    def find(self, bits: PolicyBits) -> Evaluation | None:
        """What is known of a policy."""
        ...

    def add(self, bits: PolicyBits, evaluation: Evaluation) -> None:
        """Keep what was found of a policy."""
        ...


class Store(Protocol):
    """Where evaluations are kept."""

    outlives_engine: bool
    """Whether other engines may find what is kept, so that keys must tell engines apart."""
    float_runs: FloatRuns
    """Outputs of float networks that evaluators in this process share."""

    def open(self, key: str) -> Kept:
        """Those of one key; see `haq.evaluation.fingerprint`."""
        ...
