"""The notebook runs from top to bottom, on a few steps and items, and is kept as it was run."""

import nbformat
import pytest
from conftest import REPOSITORY
from nbclient import NotebookClient

NOTEBOOK = REPOSITORY / "notebooks" / "demo.ipynb"


def test_the_notebook_runs(monkeypatch):
    monkeypatch.setenv("EQUIHASH_DEMO_STEPS", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(NOTEBOOK, 4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("generate_labels(10_000,", "generate_labels(2_000,")
    folder = {"metadata": {"path": str(NOTEBOOK.parent)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=folder).execute()
    text = "".join(output.text for output in outputs(notebook) if output.output_type == "stream")
    assert "2,000 items" in text and sum("image/png" in output.get("data", {}) for output in outputs(notebook)) == 5


def outputs(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


@pytest.mark.parametrize("kind", ["image/png", "stream"])
def test_its_outputs_are_kept(kind):
    notebook = nbformat.read(NOTEBOOK, 4)
    nbformat.validate(notebook)
    kinds = [key for output in outputs(notebook) for key in (output.output_type, *output.get("data", {}))]
    assert kinds.count(kind) >= 5 and "error" not in kinds and NOTEBOOK.stat().st_size < 400_000
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
