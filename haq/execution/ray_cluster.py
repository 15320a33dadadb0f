"""Workers of a Ray cluster."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Generic, TypeVar

import numpy as np

from haq.errors import UserError
from haq.execution.executors import J
from haq.execution.pools import RETRIES, run_jobs
from haq.execution.remote_calls import Outcome, Surroundings, outcome_of

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RayCluster:
    """Tasks of a Ray cluster, whose machines have this package and share a file system.

    A task whose process or machine dies is repeated elsewhere, others go on.

    Attributes:
        address: Address of the cluster, such as "auto" or "ray://HOST:10001"; None to start one on this machine.
        cpus: CPUs of a task, which are also its threads; at least 1.
        gpus: GPUs of a task; may be a fraction.
    """

    address: str | None = None
    cpus: int = 1
    gpus: float = 0

    def run(self, jobs: Iterable[J]) -> Iterator[J]:
        """Run as many jobs at a time as the cluster has resources for; see `Executor.run`."""
        pending = list(jobs)
        if pending:
            with self.pool() as pool:
                yield from run_jobs(pool, pending)

    @contextmanager
    def pool(self) -> Iterator["RayPool"]:
        """Connect to the cluster; see `Workers.pool`."""
        ray = _import_ray()
        is_ours = not ray.is_initialized()
        if is_ours:
            _connect(ray, self.address)
        pool = RayPool(ray, cpus=self.cpus, gpus=self.gpus)
        try:
            yield pool
            pool.wait()
        except Exception:
            pool.wait()
            raise
        except BaseException:
            pool.cancel()
            raise
        finally:
            if is_ours:
                ray.shutdown()


@dataclass(frozen=True, slots=True)
class SharedObject(Generic[T]):
    """Value in the object store of a cluster.

    Attributes:
        reference: Ray's reference to the packed value.
    """

    reference: Any

    def get(self) -> T:
        """Return the value; each process keeps the last one."""
        from haq.execution.packing import unpack  # imports torch, which takes seconds

        key = self.reference.hex()
        if key not in _LOADED:
            _LOADED.clear()
            # The store is read-only, and networks may write into their buffers.
            _LOADED[key] = unpack(bytearray(_import_ray().get(self.reference)))
        value: T = _LOADED[key]
        return value


_LOADED: dict[str, Any] = {}
"""Value that this process loaded last, by the key of its reference."""


class RayPool:
    """Connection to a cluster.

    Args:
        ray: The library, connected.
        cpus: CPUs of a task.
        gpus: GPUs of a task.
    """

    def __init__(self, ray: Any, *, cpus: int, gpus: float) -> None:
        self._ray, self._cpus, self._gpus = ray, cpus, gpus
        self._call = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=RETRIES)(outcome_of)
        self._surroundings = Surroundings.here(threads=cpus)
        self._running: dict[Future[Any], Any] = {}

    @property
    def slots(self) -> int:
        """Number of tasks that the resources of the cluster suffice for now, at least 1."""
        resources = self._ray.cluster_resources()
        slots = resources.get("CPU", 0) / self._cpus
        if self._gpus:
            slots = min(slots, resources.get("GPU", 0) / self._gpus)
        return max(1, int(slots))

    def share(self, value: T) -> SharedObject[T]:
        """Put a value into the object store; see `Pool.share`."""
        from haq.execution.packing import pack

        file = BytesIO()
        pack(value, file)
        return SharedObject(self._ray.put(np.frombuffer(file.getbuffer(), dtype=np.uint8)))

    def submit(self, function: Callable[..., R], *arguments: object) -> Future[R]:
        """Start a task; see `Pool.submit`."""
        result: Future[R] = Future()
        reference = self._call.remote(self._surroundings, function, arguments)
        task: Future[Outcome] = reference.future()
        self._running[result] = reference
        task.add_done_callback(lambda done: self._finish(done, result))
        return result

    def _finish(self, task: "Future[Outcome]", result: "Future[Any]") -> None:
        self._running.pop(result, None)
        try:
            result.set_result(task.result().get())
        except self._ray.exceptions.RayError as error:
            result.set_exception(UserError(f"a task of the Ray cluster did not end: {_first_line(error)}"))
        except Exception as error:  # noqa: BLE001  raised where the result is read
            result.set_exception(error)

    def wait(self) -> None:
        """Wait for running tasks."""
        wait(list(self._running))

    def cancel(self) -> None:
        """Stop running tasks."""
        for reference in list(self._running.values()):
            self._ray.cancel(reference, force=True)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise UserError("--cluster ray needs Ray, which is not installed: pip install 'haq[ray]'") from error
    return ray


def _connect(ray: Any, address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR", "configure_logging": True}
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = "start a Ray cluster on this machine" if address is None else f"reach a Ray cluster at {address}"
        raise UserError(f"cannot {where} ({_first_line(error)}); start one with: ray start --head") from error
