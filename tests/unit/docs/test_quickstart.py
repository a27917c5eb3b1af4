"""The notebook runs from top to bottom, and shows its run, its prediction and its concept."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.helpers.documents import ROOT

NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"

#: runs every code cell as a notebook does: the value of a last expression is displayed, as HTML or PNG
RUNNER = """
import ast, json, sys
from pathlib import Path

namespace = {}
for cell in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["cells"]:
    if cell["cell_type"] != "code":
        continue
    body = ast.parse("".join(cell["source"])).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), namespace)
    value = None if last is None else eval(compile(ast.Expression(last.value), "cell", "eval"), namespace)
    for name in ("_repr_html_", "_repr_png_"):
        if hasattr(value, name):
            print("displayed", name, len(getattr(value, name)()))
            break
"""


def test_the_notebook_is_plain_and_has_no_outputs():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    for cell in notebook["cells"]:
        assert cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_every_cell_of_the_notebook_runs(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "THALWEG_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", RUNNER, str(NOTEBOOK)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    displayed = [line.split() for line in result.stdout.splitlines() if line.startswith("displayed")]
    assert [name for _, name, _ in displayed] == ["_repr_html_", "_repr_png_", "_repr_png_", "_repr_png_"]
    assert all(int(size) > 500 for _, _, size in displayed)
    assert (tmp_path / "runs" / "quickstart" / "report.html").is_file()
