"""Figures of policies and runs, drawn without a display and without global state."""

from haq.report.plots.files import save_figure
from haq.report.plots.learning import plot_learning
from haq.report.plots.policy import plot_policy
from haq.report.plots.roofline import plot_roofline
from haq.report.plots.run import draw_missing, plot_run

__all__ = ["draw_missing", "plot_learning", "plot_policy", "plot_roofline", "plot_run", "save_figure"]
