"""The notebook of the examples, run in a kernel of its own."""

import re
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.conftest import PATIENCE_S, TOP, Pipeline

missing = [name for name in ("ipykernel", "matplotlib", "nbclient", "pandas") if find_spec(name) is None]
if missing:
    pytest.skip(f"not installed: {', '.join(missing)}", allow_module_level=True)
import nbformat  # noqa: E402
from jupyter_client.manager import AsyncKernelManager  # noqa: E402
from nbclient import NotebookClient  # noqa: E402


def said(output: Any) -> str:
    """What an output of a cell says as text."""
    return str(output.get("text") or output.get("data", {}).get("text/plain", output))


def test_the_notebook(programs: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = nbformat.read(TOP / "examples" / "notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    monkeypatch.setenv("PYTHONPATH", programs.env["PYTHONPATH"])
    with TemporaryDirectory() as sockets:
        kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=f"{sockets}/kernel")
        where = {"metadata": {"path": str(programs.folder)}}
        NotebookClient(notebook, km=kernel, timeout=PATIENCE_S, resources=where).execute()
    printed = ["\n".join(map(said, cell.outputs)) for cell in notebook.cells if cell.cell_type == "code"]
    assert "Writing descent.py" in printed[0]
    assert re.search(r"120/120 20 failed, \d+ slots 0:00:00\n\Z", re.sub(r"\x1b\[[\d;]*m", "", printed[2]))
    assert "widgets" not in printed[2]
    assert printed[3].startswith("20 of 120 tasks failed, the first is {'rate': 1.01}:\nTraceback ")
    assert printed[3].endswith("ArithmeticError: rate 1.01 is too large: x is 1006746 after 698 steps\n")
    assert [*printed[4].split()[:3], printed[4].count("\n")] == ["rate", "steps", "x", 5]
    assert any("image/png" in each.get("data", {}) for each in notebook.cells[-3].outputs)
