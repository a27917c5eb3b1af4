"""Laws for every picture: what it returns, that nothing is cut off, and that no setting of the user changes it."""

import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from thalweg.metrics.classification import MetricAccumulator
from thalweg.plots import style
from thalweg.plots.class_scores import plot_calibration, plot_per_class, plot_probabilities
from thalweg.plots.confusion import plot_confusion
from thalweg.plots.curves import plot_curves
from thalweg.plots.image_grid import plot_augmented_batch, plot_examples, plot_filters, plot_worst_mistakes

HOSTILE = [
    "$x^",
    "a\nb",
    "\udcff.png",
    "犬",
    "",
    "<img src=x onerror=alert(1)>" * 3,
    "\\frac{1}{0}",
    "W" * 40,
    "a",
    "b",
]
RANDOM = np.random.default_rng(0)
DIGITS = [str(d) for d in range(10)]


def history(epochs: int = 5, per_epoch: int = 30) -> list[dict]:
    rows = []
    for step in range(1, epochs * per_epoch + 1):
        epoch = step / per_epoch
        row = {"step": step, "epoch": epoch, "loss": 2 / (1 + step), "accuracy": 1 - 0.9 / (1 + step)}
        rows.append({**row, "split": "train", "lr": 0.01 * (1 - step / 151)})
        if step % per_epoch == 0:
            rows.append({**row, "split": "valid", "loss": 2.5 / (1 + step)})
    return rows


def scores(classes: int = 10, rows: int = 400) -> MetricAccumulator:
    probabilities, labels = RANDOM.dirichlet(np.full(classes, 0.1), rows), RANDOM.integers(0, classes, rows)
    probabilities[: rows // 2] = 0.9 * np.eye(classes)[labels[: rows // 2]] + 0.1 / classes
    made = MetricAccumulator(classes)
    made.add(probabilities, labels)
    return made


def images(count: int, channels: int = 1, high: int = 28, wide: int = 28) -> np.ndarray:
    return RANDOM.integers(0, 256, (count, high, wide, channels), dtype=np.uint8)


def wrong(count: int, classes: list[str], **shape) -> tuple:
    picks = np.arange(count)
    truth, predicted = picks % len(classes), (picks + 1) % len(classes)
    return images(count, **shape), truth, predicted, RANDOM.random(count), [f"a/{c}.png" for c in picks], classes


def matrix(classes: int) -> np.ndarray:
    return RANDOM.integers(0, 2, (classes, classes)) + np.diag(RANDOM.integers(30, 20_000, classes))


LONG = [f"a rather long name, number {k}" for k in range(100)]
CASES = {
    "curves": (plot_curves, history(), "a title"),
    "curves of one epoch": (plot_curves, history(1, 3)),
    "curves of one row": (plot_curves, [{"step": 1, "split": "valid", "loss": 0.3, "accuracy": 0.4}]),
    "curves without a miss": (plot_curves, [{"step": s, "split": "valid", "accuracy": 1.0} for s in range(3)]),
    "curves of nothing": (plot_curves, [], "a title"),
    "curves of a test alone": (plot_curves, [{"step": 1, "split": "test", "loss": 0.3, "accuracy": 0.4}]),
    "confusion of 2": (plot_confusion, matrix(2), ["cat", "dog"], "a title"),
    "confusion of 10": (plot_confusion, matrix(10), DIGITS),
    "confusion of 20": (plot_confusion, matrix(20), LONG[:20]),
    "confusion of 37": (plot_confusion, matrix(37), LONG[:37]),
    "confusion of 100": (plot_confusion, matrix(100), LONG),
    "confusion of nothing": (plot_confusion, np.zeros((3, 3), int), ["a", "b", "c"]),
    "confusion of hostile names": (plot_confusion, matrix(10), HOSTILE),
    "examples": (plot_examples, images(20, 3), LONG[:20], "a title"),
    "examples of nothing": (plot_examples, images(0)),
    "batch": (plot_augmented_batch, RANDOM.normal(size=(70, 1, 28, 28)), list("0123456789") * 7),
    "batch of wide pictures": (plot_augmented_batch, RANDOM.normal(size=(3, 3, 80, 200)), HOSTILE[:3], "a title"),
    "batch of two channels": (plot_augmented_batch, RANDOM.normal(size=(3, 2, 8, 8))),
    "mistakes": (plot_worst_mistakes, *wrong(13, DIGITS), "a title"),
    "mistakes with hostile names": (plot_worst_mistakes, *wrong(10, HOSTILE)),
    "mistakes of large pictures": (plot_worst_mistakes, *wrong(2, LONG, channels=3, high=300, wide=200)),
    "no mistakes": (plot_worst_mistakes, *wrong(0, DIGITS)),
    "filters": (plot_filters, RANDOM.normal(size=(20, 1, 5, 5))),
    "filters of colours": (plot_filters, RANDOM.normal(size=(80, 3, 3, 3)), None, 64, "a title"),
    "filters of a dense layer": (plot_filters, RANDOM.normal(size=(12, 2 * 6 * 4)), (2, 6, 4)),
    "calibration": (plot_calibration, scores().bins, "a title"),
    "calibration of nothing": (plot_calibration, MetricAccumulator(3).bins),
    "per class": (plot_per_class, scores().per_class, DIGITS, "a title"),
    "per class of hostile names": (plot_per_class, scores().per_class, HOSTILE),
    "per class of many": (plot_per_class, scores(100, 3000).per_class, LONG),
    "per class of nothing": (plot_per_class, MetricAccumulator(2).per_class, ["a", "b"]),
    "probabilities": (plot_probabilities, images(1)[0], DIGITS, RANDOM.dirichlet(np.ones(10))),
    "probabilities of certainty": (plot_probabilities, images(1, 3)[0], DIGITS, np.eye(10)[3]),
    "probabilities of many": (plot_probabilities, images(1, 3, 90, 60)[0], LONG, RANDOM.dirichlet(np.ones(100))),
    "probabilities of hostile names": (plot_probabilities, images(1)[0], HOSTILE, np.full(10, 0.1)),
}


SETTINGS = {"figure.facecolor": "black", "font.size": 30, "text.parse_math": True, "axes.grid": False}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    """A picture drawn under odd settings of the user, its figure drawn anew, and what knows where things are in it."""
    function, *arguments = CASES[request.param]
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.simplefilter("error")
        image = function(*arguments)
    canvas = FigureCanvasAgg(laid_out(function, *arguments))
    with our_style(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        canvas.draw()
    return image, canvas.figure, canvas.get_renderer()


def our_style():
    defaults = {k: v for k, v in matplotlib.rcParamsDefault.items() if k != "backend"}
    return matplotlib.rc_context({**defaults, **style._RC_PARAMS})


def laid_out(function, *arguments):
    """The figure behind a picture, not drawn yet."""
    with our_style(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function.__wrapped__(*arguments)


def labels(axis) -> list[Text]:
    """The labels of the ticks that are drawn."""
    low, high = sorted(axis.get_view_interval())
    found = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [label for label in found if label.get_visible() and label.get_text()]


def visible_texts(figure) -> list[Text]:
    hidden = set()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            ticks = [
                label
                for tick in axis.get_major_ticks() + axis.get_minor_ticks()
                for label in (tick.label1, tick.label2)
            ]
            hidden |= set(ticks) - (set(labels(axis)) if axes.axison else set())
    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text() and t not in hidden]


def test_a_picture_is_rgb_and_at_most_900_units_wide(case):
    image = case[0]
    assert image.mode == "RGB"
    assert image.width <= style.WIDTH * style.PIXELS_PER_UNIT
    assert len(image.getcolors(image.width * image.height)) > 1


def test_the_same_numbers_give_the_same_pixels_whatever_the_settings(case):
    image, figure, _ = case
    assert np.array_equal(np.asarray(image), np.asarray(figure.canvas.buffer_rgba())[..., :3])


def test_nothing_is_cut_off(case):
    """The outermost pixels are paper, and every text lies inside."""
    image, figure, renderer = case
    pixels = np.asarray(image)
    for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]):
        assert (edge == 255).all()
    for text in visible_texts(figure):
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= image.width and box.y1 <= image.height, text.get_text()


def test_texts_do_not_overlap(case):
    _, figure, renderer = case
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in visible_texts(figure)]
    for n, (text, one) in enumerate(boxes):
        # a pixel of leave, since the boxes of lines that touch are rounded outwards
        inner = one.padded(-1)
        assert not [other for other, box in boxes[n + 1 :] if inner.overlaps(box)], text


def test_drawing_leaves_the_settings_of_matplotlib_and_pyplot_alone():
    """In a process of its own, since other tests may have imported pyplot."""
    code = (
        "import matplotlib, sys\n"
        "settings = lambda: {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != 'backend'}\n"
        "before = settings()\n"
        "from thalweg.plots.curves import plot_curves as curves\n"
        "curves([{'step': 1, 'split': 'train', 'loss': 1.0}])\n"
        "assert before == settings()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def share(image, colour: str) -> float:
    """Share of the pixels that have the colour, within rounding."""
    wanted = np.round(255 * np.array(to_rgb(colour)))
    return float((np.abs(np.asarray(image).astype(float) - wanted).max(2) <= 1).mean())


def lines(rows) -> list[tuple[str, list]]:
    """What is drawn of the rows: every line's label and points."""
    return [
        (line.get_label(), line.get_xydata().tolist())
        for axes in laid_out(plot_curves, rows).axes
        for line in axes.lines
    ]


def test_curves_leave_out_what_is_missing_or_no_number():
    extra = [
        {"step": 7, "epoch": 0.2, "split": "train", "loss": float("nan")},
        {"step": 8, "epoch": 0.3, "split": "train", "loss": None, "accuracy": None},
        {"step": 9, "epoch": 0.4, "split": "valid"},
        {"step": 9, "epoch": 0.4, "split": "test", "loss": 99.0},
        {"split": "train", "loss": 99.0},
    ]
    assert lines(history() + extra) == lines(history())


def test_the_order_of_the_rows_cannot_be_seen():
    assert lines(history()[::-1]) == lines(history())


def test_curves_draw_validation_only_where_there_is_any():
    train = [row for row in history() if row["split"] == "train"]
    assert "validation" in dict(lines(history())) and "validation" not in dict(lines(train))


def test_curves_mark_the_place_of_every_accuracy():
    """The axis is that of the error; the labels say accuracy and stand where it is."""
    axes = laid_out(plot_curves, history()).axes[1]
    ticks = {round(place, 9): axes.yaxis.get_major_formatter()(place) for place in axes.yaxis.get_majorticklocs()}
    assert ticks[1.0] == "99 %" and ticks[10.0] == "90 %"
    line = next(line for line in axes.lines if line.get_label() == "validation")
    expected = [100 * (1 - row["accuracy"]) for row in history() if row["split"] == "valid"]
    assert line.get_ydata() == pytest.approx(expected)
    assert axes.yaxis_inverted()


def test_curves_count_updates_where_epochs_are_unknown():
    rows = [{"step": s, "split": "train", "loss": 1 / s} for s in (10, 20)]
    assert laid_out(plot_curves, rows).axes[0].get_xlabel() == "update"
    assert laid_out(plot_curves, history()).axes[0].get_xlabel() == "epoch"


def texts(function, *arguments) -> list[str]:
    return [t.get_text() for t in laid_out(function, *arguments).findobj(Text) if t.get_text()]


def test_the_confusion_matrix_shows_every_count_and_names_the_worst_pair_first():
    found = texts(plot_confusion, np.array([[50, 7, 0], [1, 60, 3], [0, 0, 70]]), ["cat", "dog", "cow"])
    assert {"50", "60", "70", "7", "1", "3"} <= set(found)
    assert [t for t in found if "→" in t] == ["truth → answer", "cat → dog", "dog → cow", "dog → cat"]
    assert "11 of 191 mistaken" in found


def test_right_answers_are_blue_and_mistakes_orange():
    def colours(table):
        return (
            next(a for a in laid_out(plot_confusion, np.array(table), ["a", "b"]).axes if a.images)
            .images[0]
            .get_array()
        )

    cells = colours([[90, 10], [0, 100]])
    assert cells[0, 0][2] > cells[0, 0][0] and cells[0, 1][0] > cells[0, 1][2]
    assert tuple(cells[1, 0]) == (1, 1, 1)
    assert cells[1, 1].mean() < cells[0, 0].mean()


def test_an_image_of_a_grid_keeps_its_pixels():
    image = np.zeros((1, 4, 4, 3), np.uint8)
    image[0, :2] = (200, 30, 60)
    drawn = np.asarray(plot_examples(image))
    side = (drawn == (200, 30, 60)).all(2)
    assert side.any() and side.sum() == (drawn == (0, 0, 0)).all(2).sum()


def test_a_batch_goes_from_black_to_white_with_one_scale_for_all():
    values = np.zeros((2, 1, 4, 4))
    values[0], values[1], values[1, 0, 0] = -1.0, 0.0, 1.0
    assert {(0, 0, 0), (128, 128, 128)} <= {colour for _, colour in plot_augmented_batch(values).getcolors(1 << 24)}


def test_only_the_first_images_of_a_large_batch_are_drawn():
    values = RANDOM.normal(size=(100, 1, 4, 4))
    values[0, 0, 0, 0], values[1, 0, 0, 0] = 9, -9
    assert np.array_equal(
        np.asarray(plot_augmented_batch(values, limit=16)), np.asarray(plot_augmented_batch(values[:16]))
    )


def test_filters_are_blue_where_positive_and_orange_where_negative():
    weight = np.ones((1, 1, 3, 3))
    assert share(plot_filters(weight), style.BLUE) > 0.1 and share(plot_filters(weight), style.VERMILLION) == 0
    assert share(plot_filters(-weight), style.VERMILLION) > 0.1 and share(plot_filters(-weight), style.BLUE) == 0


def test_a_dense_layer_is_drawn_as_the_pixels_it_reads():
    weight = RANDOM.normal(size=(6, 3, 5, 4))
    dense = plot_filters(weight.reshape(6, -1), (3, 5, 4))
    assert np.array_equal(np.asarray(dense), np.asarray(plot_filters(weight)))


def test_mistakes_say_truth_answer_and_source():
    found = texts(plot_worst_mistakes, *wrong(1, ["cat", "dog"]))
    assert len(found) == 1
    assert found[0].startswith("cat taken for dog\n") and found[0].endswith("a/0.png")


def test_classes_without_a_score_are_left_out():
    rows = [{"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "examples": 4}, dict.fromkeys(("precision", "recall", "f1"))]
    found = texts(plot_per_class, rows, ["cat", "dog"])
    assert "cat (4)" in found and not any("dog" in text for text in found)


def test_the_most_probable_of_many_classes_come_first():
    shares = np.linspace(0, 1, 30) / 15
    axes = laid_out(plot_probabilities, images(1)[0], LONG[:30], shares).axes[1]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(shares[::-1][:10])


def test_ten_classes_keep_their_order():
    shares = RANDOM.dirichlet(np.ones(10))
    axes = laid_out(plot_probabilities, images(1)[0], DIGITS, shares).axes[1]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(shares)


def test_long_texts_are_cut_in_the_middle_or_at_the_front():
    assert style.ellipsize("abcdefghij", 10) == "abcdefghij"
    assert style.ellipsize("class number 17", 10) == "class … 17"
    assert style.ellipsize("photos/summer/17.jpg", 10, tail=True) == "…er/17.jpg"
    assert style.ellipsize("a\nb\x00c\udcff") == "a?b?c?"


def test_only_certainty_is_100_percent_and_only_impossibility_0():
    shares = [0, 0.0004, 0.5, 0.98765, 0.9996, 1, None, float("nan")]
    expected = ["0.0 %", "< 0.1 %", "50.0 %", "98.8 %", "> 99.9 %", "100.0 %", "–", "–"]
    assert [style.format_percent(share) for share in shares] == expected
    assert style.format_percent(0.99996, 2) == "> 99.99 %"
