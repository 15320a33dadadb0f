"""Figures of policies and runs, drawn without a display and without global state."""

from haq.reporting.plots.files import save_figure
from haq.reporting.plots.learning import plot_learning
from haq.reporting.plots.policy import plot_policy
from haq.reporting.plots.roofline import plot_roofline
from haq.reporting.plots.run import draw_missing, plot_run

__all__ = ["draw_missing", "plot_learning", "plot_policy", "plot_roofline", "plot_run", "save_figure"]
