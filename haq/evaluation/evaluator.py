"""Evaluator of policies on one split; each policy is evaluated once."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from hashlib import blake2b

from haq.errors import FailedEvaluationError, UserError
from haq.evaluation.failures import marked_if_failed
from haq.evaluation.fingerprint import fingerprint, float_key, hash_tensors
from haq.evaluation.float_run import FloatRun, StoredOutputs
from haq.evaluation.policy_memory import PolicyMemory
from haq.evaluation.protocols import Engine, Evaluation, Kept, Store
from haq.evaluation.split_evaluation import SplitEvaluation, evaluate_shared
from haq.execution.pools import Pool, Shared
from haq.execution.structures import tensors
from haq.policy import PolicyBits
from haq.tasks.base import SplitName, Task
from hardware_sim.cost import Bits

CAPACITY = 10_000
"""Number of policies whose evaluations stay in memory, those used last. A longer search evaluates and counts a policy
again if it comes back after as many others."""


class Evaluator:
    """Evaluation of policies on one split of a task, cached in memory and optionally in a store.

    The float network is run when the evaluator is created, and again for each policy if its outputs take more than
    `haq.evaluation.float_run.MEMORY_LIMIT_BYTES`. A store also has evaluations of other searches on the same
    network and data. It does not change what is counted: `evaluations` counts each policy once, and `forward_images`
    the images that evaluating all of them without a store takes, float passes included. So the counts of two searches
    can be compared, and a run gives identical files with an empty and a full store. The images that a store needs for
    its key, 16 for each of eight policies and for their corrections, are not counted.

    Args:
        engine: Engine that runs the network.
        task: Task with the data and the metric.
        split: Name of the split.
        batch_size: Number of items of a batch.
        store: Store of evaluations; None for none.

    Attributes:
        evaluations: Number of policies that were evaluated, those that came back after `CAPACITY` others once more.
        forward_images: Number of images that these evaluations and the float pass take.
        accuracy_fp32: Score of the float network.

    Raises:
        ValueError: The task does not have the split.
        UserError: The outputs of the float network are not finite, or items cannot be read.
    """

    def __init__(
        self, engine: Engine, task: Task, split: SplitName, *, batch_size: int = 256, store: Store | None = None
    ) -> None:
        if not task.size(split):
            raise ValueError(f"{task.name} has no {split} split")
        self._engine, self._task, self._split, self._batch_size = engine, task, split, batch_size
        self._known = PolicyMemory[Evaluation](CAPACITY)
        self._recalled: dict[PolicyBits, Evaluation] = {}
        self.evaluations = 0
        self.forward_images = 0
        self._store = store
        self._kept: Kept | None = None
        self._float = self._float_run()
        self._split_evaluation = SplitEvaluation(engine, task, split, batch_size, self._float.outputs)
        self._requested: dict[PolicyBits, Future[Evaluation]] = {}
        self._workers: tuple[Pool, Shared[SplitEvaluation]] | None = None
        self.accuracy_fp32 = self._float.score
        self.forward_images += task.size(split) + engine.images_per_policy

    def evaluate(self, w_bits: Sequence[Bits], a_bits: Sequence[Bits]) -> Evaluation:
        """Evaluate a policy; repeated evaluations are returned from memory and not counted.

        Args:
            w_bits: Bits of the weights of each layer; None for float.
            a_bits: Bits of the input of each layer; None for float.

        Returns:
            Score, divergence and relative output error of the policy.

        Raises:
            FailedEvaluationError: One of them is NaN or infinite.
            UserError: The store cannot be used.
        """
        found = self.attempt(w_bits, a_bits)
        if found.failure is not None:
            raise FailedEvaluationError(f"the policy fails on the {self._split} split: {found.failure}")
        return found

    def attempt(self, w_bits: Sequence[Bits], a_bits: Sequence[Bits]) -> Evaluation:
        """Evaluate a policy as `evaluate` does; one that fails has an evaluation with the reason.

        Args:
            w_bits: Bits of the weights of each layer; None for float.
            a_bits: Bits of the input of each layer; None for float.

        Returns:
            The evaluation, with the reason in `failure` if its numbers are NaN or infinite.

        Raises:
            UserError: The store cannot be used.
        """
        bits = (tuple(w_bits), tuple(a_bits))
        found = self._known.find(bits)
        if found is None:
            found = self._recalled.pop(bits, None) or self._keep(bits)
            self._known.add(bits, found)
            self.evaluations += 1
            self.forward_images += self._task.size(self._split) + self._engine.images_per_policy
        return found

    @contextmanager
    def distributed(self, pool: Pool) -> Iterator[None]:
        """Let the workers of a pool evaluate requested policies while the context is open.

        Args:
            pool: The pool, to which the network and the data are sent.

        Yields:
            None.
        """
        self._workers = pool, pool.share(self._split_evaluation)
        try:
            yield
        finally:
            self._workers = None
            self._requested.clear()

    def request(self, w_bits: Sequence[Bits], a_bits: Sequence[Bits]) -> None:
        """Start the evaluation of a policy that `evaluate` will be called with; without workers nothing is done.

        Args:
            w_bits: Bits of the weights of each layer; None for float.
            a_bits: Bits of the input of each layer; None for float.

        Raises:
            UserError: The store cannot be used.
        """
        bits = (tuple(w_bits), tuple(a_bits))
        if self._workers is None or bits in self._known or bits in self._recalled or bits in self._requested:
            return
        kept = self.kept(len(bits[0]))
        if kept is None or kept.find(bits) is None:
            pool, measurement = self._workers
            self._requested[bits] = pool.submit(evaluate_shared, measurement, bits)

    def recall(
        self, w_bits: Sequence[Bits], a_bits: Sequence[Bits], evaluation: Evaluation, *, is_counted: bool
    ) -> None:
        """Add an evaluation made before, such as one from the journal of an interrupted search.

        `evaluate` returns it without running anything. So an interrupted search has the same counts as one that was not
        interrupted.

        Args:
            w_bits: Bits of the weights of each layer; None for float.
            a_bits: Bits of the input of each layer; None for float.
            evaluation: Evaluation of this policy on this split.
            is_counted: Whether the counts that are given to `resume` include it; otherwise it is counted when
                `evaluate` is called with it for the first time.
        """
        bits = (tuple(w_bits), tuple(a_bits))
        if is_counted:
            self._known.add(bits, evaluation)
        elif bits not in self._known:
            self._recalled[bits] = evaluation

    def resume(self, *, evaluations: int, forward_images: int) -> None:
        """Set the counts of an interrupted search.

        Args:
            evaluations: Number of policies evaluated so far.
            forward_images: Number of images run so far.
        """
        self.evaluations, self.forward_images = evaluations, forward_images

    def kept(self, layers: int) -> Kept | None:
        """Return the stored evaluations of this network on this split.

        Args:
            layers: Number of layers of the network.

        Returns:
            The stored evaluations; None without a store.

        Raises:
            UserError: The store cannot be used.
        """
        if self._kept is None and self._store is not None:
            inputs, _ = next(self._task.batches(self._split, batch_size=self._batch_size))
            settings = (self._task.metric.name, self._split, self._batch_size)
            data = self._float.digest
            if self._store.outlives_engine:
                key = fingerprint(self._engine, inputs, layers=layers, settings=settings, data=data)
            else:
                key = float_key(settings=settings, data=data)
            self._kept = self._store.open(key)
        return self._kept

    def _keep(self, bits: PolicyBits) -> Evaluation:
        """Return an evaluation from the store, or compute it and add it to the store."""
        kept = self.kept(len(bits[0]))
        found = kept.find(bits) if kept else None
        if found is None:
            found = self._run(bits)
            if kept:
                kept.add(bits, found)
        return found

    def _run(self, bits: PolicyBits) -> Evaluation:
        """Return the result of a request, or evaluate a policy in this process."""
        requested = self._requested.pop(bits, None)
        found = self._split_evaluation.evaluate(bits) if requested is None else requested.result()
        return marked_if_failed(found, metric=self._task.metric, accuracy_fp32=self.accuracy_fp32)

    def _float_run(self) -> FloatRun:
        """Return the float run that evaluators with the same store share, or compute it."""
        if self._store is None:
            return self._run_float()
        runs = self._store.float_runs
        run = runs.find(self._engine, self._task, self._split, batch_size=self._batch_size)
        if run is None:
            run = self._run_float()
            runs.add(run)
        return run

    def _run_float(self) -> FloatRun:
        meter, references, digest = self._task.meter(), StoredOutputs(), blake2b()
        for each in SplitEvaluation(self._engine, self._task, self._split, self._batch_size).predictions(None):
            if not all(tensor.isfinite().all() for tensor in tensors(each.outputs)):
                raise UserError(f"the float network's outputs on the {self._split} split hold NaN or infinity")
            if self._store is not None:
                for structure in (each.inputs, each.targets, each.outputs):
                    hash_tensors(digest, structure)
            meter.update(each.outputs, each.targets)
            references.add(each.outputs)
        score = self._task.metric.score(meter.compute())
        return FloatRun(
            self._engine,
            self._task,
            self._split,
            self._batch_size,
            score,
            outputs=references.outputs,
            digest=digest.digest(),
        )
