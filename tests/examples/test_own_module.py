"""The notebook from an `nn.Module` to a quantized one, executed in a kernel."""

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat of the extra dev is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient of the extra dev is not installed")
pytest.importorskip("ipykernel", reason="ipykernel of the extra dev is not installed")

FILE = Path(__file__).resolve().parents[2] / "examples" / "own_module.ipynb"


def test_the_notebook_runs_and_shows_tables_and_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(FILE, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FILE.parents[1]), os.environ.get("PYTHONPATH", "")]))
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    pictures = [each for each in shown if "image/png" in each]
    assert len(pictures) == 3
    (table,) = [each["text/html"] for each in shown if "policy found" in each.get("text/html", "")]
    assert "best uniform bits" in table
    printed = "".join(output.text for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output)
    assert "% of the test images, float" in printed
