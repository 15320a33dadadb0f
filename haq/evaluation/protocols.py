"""Protocols of evaluation: engines that run networks with policies, and stores of evaluations."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from haq.evaluation.float_run import FloatRuns
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.tasks.predictions import Runner


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results of one policy on one split.

    Attributes:
        accuracy: Score of the task's metric, of which higher is better; a fraction in [0, 1] for accuracies.
        divergence: Mean divergence of the quantized network's outputs from the float network's over items, in nats for
            distributions; see `haq.tasks.distances`.
        noise: Relative output error: power of the difference from the float outputs over the power of the float
            outputs, 1 / SQNR. 0.01 is 20 dB. For logits both powers are about the mean of an item's outputs.
        failure: Reason why the policy could not be evaluated; the other values stand for a very bad policy then. None
            for a successful evaluation.
    """

    accuracy: float
    divergence: float
    noise: float
    failure: str | None = None


class Engine(Protocol):
    """Evaluator of a network with any policy: runs it with the bits of a policy, or in float.

    Engines are compared and hashed by identity, and can be referenced weakly.

    Attributes:
        name: Name of the engine, which is part of the key of stored evaluations.
        images_per_policy: Number of images that are run for a policy before its first output, for corrections or
            training.
    """

    name: str
    images_per_policy: int

    @property
    def model(self) -> nn.Module:
        """Float network, in evaluation mode."""
        ...

    def runner(self, bits: PolicyBits | None) -> Runner:
        """Return the network with a policy as a function.

        Called once for each policy that is evaluated; it is the place to quantize, calibrate, correct or train. The
        functions of all policies stay valid and may be called alternately.

        Args:
            bits: (w_bits, a_bits) of every layer, 1 to 8 or None for float; None for the float network.

        Returns:
            Function from inputs [n, ...], on any device, to outputs [n, ...]. It is called without gradients.

        Raises:
            UserError: The engine cannot run the network; the message is shown to users as it is.
            ValueError: The engine cannot run these bits.
        """
        ...


@runtime_checkable
class CorrectingEngine(Engine, Protocol):
    """Engine that corrects the shift in a network's means and variances that quantization causes."""

    def corrections(self, bits: PolicyBits) -> Corrections:
        """Return the corrections of a policy: those stored for it, else computed from a few images.

        Args:
            bits: (w_bits, a_bits) of every layer, 1 to 8 or None for float.

        Returns:
            The corrections; empty ones if the engine does not correct.
        """
        ...

    def store(self, bits: PolicyBits, corrections: Corrections) -> None:
        """Store the corrections of a policy, which are then used instead of computed ones.

        Called before `runner`, with corrections from the files of a run.

        Args:
            bits: (w_bits, a_bits) of every layer, 1 to 8 or None for float.
            corrections: Corrections of this policy.
        """
        ...


class Kept(Protocol):
    """Evaluations under one key of a store."""

    def find(self, bits: PolicyBits) -> Evaluation | None:
        """Return the evaluation of a policy.

        Args:
            bits: (w_bits, a_bits) of every layer, 1 to 8 or None for float.

        Returns:
            The evaluation; None if it is not stored.

        Raises:
            UserError: The store cannot be read.
        """
        ...

    def add(self, bits: PolicyBits, evaluation: Evaluation) -> None:
        """Store the evaluation of a policy; called once after each evaluation that `find` did not return.

        Args:
            bits: (w_bits, a_bits) of every layer, 1 to 8 or None for float.
            evaluation: Its evaluation.

        Raises:
            UserError: The store cannot be written.
        """
        ...


class Store(Protocol):
    """Store of evaluations by key.

    Attributes:
        outlives_engine: Whether evaluations can be found by other engines, so that keys must distinguish engines.
        float_runs: Runs of float networks that evaluators in this process share.
    """

    outlives_engine: bool
    float_runs: FloatRuns

    def open(self, key: str) -> Kept:
        """Return the evaluations of a key.

        Args:
            key: Key of `haq.evaluation.fingerprint`, 32 hexadecimal digits.

        Returns:
            The evaluations; empty ones for a new key.

        Raises:
            UserError: The store cannot be used.
        """
        ...
