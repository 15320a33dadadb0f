"""Processes that work for this one: of one thread each, and gone when it is."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread

import torch


def worker_pool(count: int) -> ProcessPoolExecutor:
    """So many new processes; they share nothing with this one, and none outlives it, however it ends."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_begin)


def _begin() -> None:
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A worker whose parent was killed would wait for more work forever.
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
