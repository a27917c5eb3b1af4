"""How runs, predictions, concepts and training look in a notebook."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

import thalweg
from tests.helpers.records import make_bare_record, make_record
from thalweg import api
from thalweg.data.images.synthetic import make_bars
from thalweg.pages import notebook
from thalweg.tasks.classify import Classify

PNG = b"\x89PNG\r\n"


def make_progress(val=None):
    return SimpleNamespace(step=3, steps=9, epoch=1 / 3, epochs=1.0, losses={"<b>loss": 0.5}, val=val)


def test_a_run_is_its_name_its_metrics_and_its_curves(tmp_path):
    html = notebook.render_run(make_record(model="<b>"), Classify.metrics, tmp_path)
    assert "&lt;b&gt; on photos" in html and "<b>&lt;b&gt;" in html and "98.00 %" in html and "<img" not in html
    (tmp_path / "curves.png").write_bytes(PNG)
    assert "data:image/png;base64," in notebook.render_run(make_record(), Classify.metrics, tmp_path)
    assert "photos" in notebook.render_run(make_bare_record(), Classify.metrics, tmp_path)


def test_progress_is_a_bar_with_losses_and_validation():
    html = notebook.render_progress(make_progress(val={"accuracy": 0.75, "examples": 3}))
    assert 'value="3" max="9"' in html and "0.7500" in html
    assert "<b>" not in html and "&lt;b&gt;" in html


def test_outside_of_a_notebook_there_is_no_display(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert notebook.make_progress_display() is None


def test_training_in_a_notebook_updates_one_display(monkeypatch, tmp_path):
    class Handle:
        def __init__(self):
            self.updates = []

        def update(self, content):
            self.updates.append(content)

    handle = Handle()
    display = ModuleType("IPython.display")
    display.HTML = lambda text: text
    display.display = lambda content, display_id: handle
    for name, module in (("ipykernel", ModuleType("ipykernel")), ("IPython.display", display)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    run = api.train("classify", make_bars(count=24), model="perceptron", steps=3, out=tmp_path / "run", report=False)
    assert handle.updates and all("<progress" in update for update in handle.updates)
    assert "perceptron" in run._repr_html_()


@pytest.mark.parametrize("name", ["neuron", "digits-lenet"])
def test_concepts_and_predictions_are_images_and_runs_are_html(name):
    if name == "neuron":
        assert thalweg.explain(name)._repr_png_().startswith(PNG)
        return
    run = thalweg.load(name)
    assert "<b>" in run._repr_html_()
    (prediction,) = run.predict(make_bars(count=24, size=28).train.images[0])
    assert prediction._repr_png_().startswith(PNG)
