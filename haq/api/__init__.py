"""The Python API: functions that run a workflow and draw the figures of its run folder.

`search`, `finetune` and `reconstruct` run a workflow and return its result with an `Artifact`; `load` reads the
artifact of an earlier run, and `load_packed` a packed file; `evaluate` and `simulate` measure accuracy and cost of a
policy, `export` writes it as files for other tools, `plot` draws it, and `report` writes a page on runs. All are
available from `haq`.
"""

from haq.api.artifacts import evaluate, export, load
from haq.api.pricing import simulate
from haq.api.reports import plot, report
from haq.api.workflows import finetune, reconstruct, search
from haq.exporters.packed.model import load_packed
from haq.policy import load_policy

__all__ = [
    "evaluate",
    "export",
    "finetune",
    "load",
    "load_packed",
    "load_policy",
    "plot",
    "reconstruct",
    "report",
    "search",
    "simulate",
]
