"""Learning curves of any task: which panels there are, what they show, and how metrics with a style are scaled."""

from dataclasses import replace

import pytest

from tests.helpers.figures import layout_figure
from tests.unit.plots.test_plots import ACCURACY, history
from thalweg.plots import style
from thalweg.plots.curves import MetricStyle, plot_curves

NATS = MetricStyle("nats_per_character", "Nats per character", False, "nats")
FRECHET = MetricStyle("frechet_distance", "Fréchet distance", False, "number")


def language_model_rows() -> list[dict]:
    rows = []
    for step in range(1, 7):
        position = {"step": step, "epoch": step / 2}
        rows.append({**position, "split": "train", "loss": 3 / step, "lr": 0.1})
        rows.append({**position, "split": "val", "nats_per_character": 3.2 / step + 0.1 * step, "bits": 1.0})
    return rows


def gan_rows() -> list[dict]:
    rows = []
    for step in range(1, 5):
        rows.append({"step": step, "split": "train", "generator": -step, "discriminator": 2 / step, "lr": 2e-4})
    return [
        *rows,
        {"step": 2, "split": "val", "frechet_distance": 80.5},
        {"step": 4, "split": "val", **{FRECHET.name: 90}},
    ]


def lines(rows, *args) -> list[tuple[str, list]]:
    """The label and the points of every line."""
    axes = layout_figure(plot_curves, rows, *args).axes
    return [(line.get_label(), line.get_xydata().tolist()) for panel in axes for line in panel.lines]


def legends(axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_classification_has_panels_for_accuracy_loss_and_lr():
    accuracy, loss, lr = layout_figure(plot_curves, history(), [ACCURACY]).axes
    assert accuracy.get_title("left") == "Accuracy: best 99.40 %"
    assert loss.get_title("left") == "loss" and loss.get_yscale() == "log"
    assert legends(accuracy) == legends(loss) == ["training", "validation"]
    (line,) = lr.lines
    assert line.get_ydata() == pytest.approx([row["lr"] for row in history() if row["split"] == "train"])


def test_language_model_has_its_metric_the_training_loss_and_plain_metrics():
    nats, loss, bits, lr = layout_figure(plot_curves, language_model_rows(), [NATS]).axes
    lowest = min(row["nats_per_character"] for row in language_model_rows() if row["split"] == "val")
    assert nats.get_title("left") == f"Nats per character: best {lowest:.4g}"
    assert nats.get_ylabel() == "nats" and legends(nats) == ["validation"]
    assert legends(loss) == ["loss"]
    assert bits.get_title("left") == "bits" and len(lr.lines) == 1


def test_gan_has_both_losses_in_one_panel_and_the_lowest_distance_is_best():
    distance, losses, _ = layout_figure(plot_curves, gan_rows(), [FRECHET]).axes
    assert distance.get_title("left") == "Fréchet distance: best 80.5"
    assert legends(losses) == ["discriminator", "generator"]
    discriminator, generator = losses.lines
    assert discriminator.get_ydata() == pytest.approx([2, 1, 2 / 3, 0.5])
    assert generator.get_ydata() == pytest.approx([-1, -2, -3, -4])
    assert discriminator.get_color() != generator.get_color() != style.VAL_COLOR
    assert losses.get_yscale() == "linear"


def test_a_legend_of_many_losses_is_below_the_panel_and_the_title_is_whole():
    more = dict.fromkeys(("penalty", "real", "fake"), 0.1)
    rows = [{**row, **more} if row["split"] == "train" else row for row in gan_rows()]
    history = [*rows, *({"step": 4, "epoch": 1.0, "split": "val", name: 0.1} for name in ("a", "b", "c"))]
    fig = layout_figure(plot_curves, history, [replace(FRECHET, label="Fréchet distance")])
    fig.draw_without_rendering()
    losses = next(axes for axes in fig.axes if axes.get_title("left") == "Training losses")
    assert len(legends(losses)) == 5
    assert losses.get_legend().get_window_extent().y1 < losses.get_window_extent().y0
    assert fig.axes[0].get_title("left").startswith("Fréchet distance: best")


def test_a_metric_that_only_training_has_is_no_loss_if_it_has_a_style():
    rows = [row for row in history() if row["split"] == "train"]
    accuracy, loss, _ = layout_figure(plot_curves, rows, [ACCURACY]).axes
    assert legends(accuracy) == ["training"] and legends(loss) == ["loss"]


def test_at_most_six_panels_are_drawn_and_styled_metrics_come_first():
    names = [f"metric{n}" for n in range(9)]
    rows = [{"step": 1, "split": "val", **dict.fromkeys(names, 0.5)}]
    rows.append({"step": 1, "split": "train", "a loss": 1.0, "lr": 1.0})
    styles = [MetricStyle(name, name.upper(), True, "number") for name in ("metric8", "metric7", "no such metric")]
    titles = [axes.get_title("left") for axes in layout_figure(plot_curves, rows, styles).axes]
    assert titles[:2] == ["METRIC8: best 0.5", "METRIC7: best 0.5"]
    assert len(titles) == 6 and titles[3:5] == ["metric0", "metric1"]
    everything = [MetricStyle(name, name, True, "number") for name in names]
    assert len(layout_figure(plot_curves, rows, everything).axes) == 6


@pytest.mark.parametrize(("unit", "label"), [("number", ""), ("nats", "nats"), ("bits", "bits"), ("pixels", "pixels")])
def test_units_are_on_the_axis(unit, label):
    metric = MetricStyle("loss", "Loss", False, unit)
    assert layout_figure(plot_curves, history(), [metric]).axes[0].get_ylabel() == label


def test_fractions_up_to_90_percent_have_a_linear_axis():
    rows = [{"step": s, "split": "val", "accuracy": 0.1 * s} for s in range(1, 10)]
    axes = layout_figure(plot_curves, rows, [ACCURACY]).axes[0]
    assert axes.get_yscale() == "linear" and axes.get_title("left") == "Accuracy: best 90.00 %"
    assert axes.yaxis.get_major_formatter()(0.5) == "50 %"


def test_an_error_rate_has_percent_labels_and_its_minimum_is_best():
    metric = MetricStyle("error", "Error rate", False, "fraction")
    rows = [{"step": s, "split": "val", "error": 0.5 / s} for s in range(1, 6)]
    axes = layout_figure(plot_curves, rows, [metric]).axes[0]
    assert axes.get_title("left") == "Error rate: best 10.00 %"
    assert axes.yaxis.get_major_formatter()(0.02) == "2 %"


def test_accuracies_are_drawn_as_errors_and_labelled_as_accuracies():
    axes = layout_figure(plot_curves, history(), [ACCURACY]).axes[0]
    ticks = {round(error, 9): axes.yaxis.get_major_formatter()(error) for error in axes.yaxis.get_majorticklocs()}
    assert ticks[1.0] == "99 %" and ticks[10.0] == "90 %"
    line = next(line for line in axes.lines if line.get_label() == "validation")
    expected = [100 * (1 - row["accuracy"]) for row in history() if row["split"] == "val"]
    assert line.get_ydata() == pytest.approx(expected)
    assert axes.yaxis_inverted()


def test_missing_and_non_finite_values_are_left_out():
    extra = [
        {"step": 7, "epoch": 0.2, "split": "train", "loss": float("nan")},
        {"step": 8, "epoch": 0.3, "split": "train", "loss": None, "accuracy": None},
        {"step": 9, "epoch": 0.4, "split": "val"},
        {"step": 9, "epoch": 0.4, "split": "test", "loss": 99.0},
        {"split": "train", "loss": 99.0},
    ]
    assert lines(history() + extra) == lines(history())


def test_the_order_of_rows_does_not_matter():
    assert lines(history()[::-1], [ACCURACY]) == lines(history(), [ACCURACY])


def test_the_x_axis_shows_steps_where_a_row_has_no_epoch():
    rows = [{"step": s, "split": "train", "loss": 1 / s} for s in (10, 20)]
    assert layout_figure(plot_curves, rows).axes[0].get_xlabel() == "step"
    assert layout_figure(plot_curves, history()).axes[0].get_xlabel() == "epoch"
