"""Figures of policies and runs, drawn without a display and without global state."""

from haq.plots.files import save_figure
from haq.plots.learning import plot_learning
from haq.plots.policy import plot_policy
from haq.plots.roofline import plot_roofline
from haq.plots.run import plot_run

__all__ = ["plot_learning", "plot_policy", "plot_roofline", "plot_run", "save_figure"]
