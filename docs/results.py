"""Print docs/results.md: a table of all recipes, made from their files, and the ratios that benchmarks/ measured.

python docs/results.py > docs/results.md          (make results)

A test compares the file with what this prints, so neither can be edited alone.
"""

from __future__ import annotations

from typing import NamedTuple

from thalweg.config.recipes import Recipe, load_recipes


class Row(NamedTuple):
    """A result that is not a recipe's: what was measured, the command that repeats it, and the numbers."""

    what: str
    command: str
    result: str


INTRODUCTION = """\
# Results

This page is printed by `docs/results.py` from the recipes' files. Every result is measured on the test split; each
run was tested once. Data sets of images, and `multi30k`, are downloaded once, by name; other texts, series and pairs
are read from `THALWEG_DATA`. The lookback of the ETTh1 recipes was chosen while test figures were in sight too, and
the settings of `adding-600` and `copy-500` on the seed that is given; these, `airline` and the translations ran on
shared cores of an EPYC. Minutes are those of
two cores of a server processor (Xeon with AMX, torch 2.13), for `cifar10-small` of an EPYC with AVX2, and for
`cifar10-94` and `cifar10-resnet50`, which have not been run, an estimate for one large GPU. `thalweg recipes`
prints the same with all options.

Three recipes had earlier settings that were tested too: `mnist-best` (99.59 %), `cifar10-fast` (a shorter run on nine
tenths of the images, 93.13 %) and `cifar10-small` (89.90 and 90.29 %).

"The talk" is *Deep Learning: concepts, algorithms & use cases* (2020), whose demonstrations Thalweg repeats.
"""

WITHOUT_TRAINING = (
    Row(
        "a digit drawn anywhere",
        "`thalweg predict digits-lenet my_digit.png`",
        "33 of 35 drawings by four people that the model never saw; `digits-mlp` 33 of 35",
    ),
    Row(
        "what is in a photo",
        "`thalweg predict squeezenet1_1 photo.jpg`",
        "the published probabilities to three decimals (Samoyed 0.928, espresso 0.840, Egyptian cat 0.686, African "
        "elephant 0.778)",
    ),
    Row(
        "models with published weights",
        "`python3 benchmarks/parity/run.py`",
        "18 architectures equal torchvision's bit for bit, in evaluation and in training",
    ),
)

RATIOS_INTRODUCTION = """\
Measured on version 0.1, in one run on the same two cores of the Xeon; medians. `make bench` repeats all of it on your
machine, the command in the table one row. [benchmarks/README.md](../benchmarks/README.md) says what is compared
and what is not fair about it.
"""

RATIOS = (
    Row(
        "time from the start of the process to 99.2 % of MNIST's test set, `mnist-fast`",
        "`python3 benchmarks/run.py time`",
        "12 s in one run (another took 61 s on the shared machine, cause not found); fastai's book example 82 s, "
        "PyTorch's example not within 420 s",
    ),
    Row(
        "training the talk's LeNet, against the same loop in PyTorch, and Keras 3",
        "`python3 benchmarks/run.py throughput`",
        "4.3 and 9.4 times as many examples per second with batches of 256, 2.1 and 3.2 with batches of 64",
    ),
    Row(
        "ResNet-50 on images, against the same model in eager PyTorch",
        "`python3 benchmarks/run.py inference`",
        "1.47 times as many per second one by one, 1.68 in batches of 8, 2.27 in batches of 32",
    ),
    Row(
        "decoding a folder of JPEG files to 224 x 224, against Pillow in a loop",
        "`python3 benchmarks/run.py decoding`",
        "5.15 times for camera photos (3000 x 2000), 1.94 for images from the web (640 x 480)",
    ),
    Row(
        "fine-tuning the head of ResNet-18 on 1,000 photos for 10 epochs, against computing the features in every "
        "epoch",
        "`python3 benchmarks/run.py finetuning`",
        "9.1 times (18.6 s against 170 s)",
    ),
    Row(
        "`thalweg predict squeezenet1_1 photo.jpg` from the start of the process, against the least that torch "
        "and Pillow need for it",
        "`python3 benchmarks/run.py start`",
        "1.16 s against 1.12 s",
    ),
)


def format_cells(*cells: str) -> str:
    """Return one line of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def format_recipe(recipe: Recipe) -> str:
    """Return the line of a recipe."""
    command = f"`thalweg train --recipe {recipe.name}`"
    return format_cells(recipe.summary, command, recipe.reference_result, recipe.our_result, f"{recipe.minutes:g}")


def format_rows(rows: tuple[Row, ...]) -> list[str]:
    """Return a table."""
    return ["| what | command | result |", "|---|---|---|", *(format_cells(*row) for row in rows)]


def format_results() -> str:
    """Return the whole page."""
    lines = [INTRODUCTION, "| what | command | reference | Thalweg | minutes |", "|---|---|---|---|---:|"]
    lines += [format_recipe(recipe) for recipe in load_recipes().values()]
    lines += ["", "`python benchmarks/seeds.py RECIPE --seeds 5` repeats a mean over seeds.", ""]
    lines += ["## Without training", "", *format_rows(WITHOUT_TRAINING), ""]
    lines += ["## Side by side with other tools", "", RATIOS_INTRODUCTION, *format_rows(RATIOS)]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    print(format_results(), end="")
