"""What a run leaves for people: examples of its data, and a time-lapse of its samples."""

from __future__ import annotations

import numpy as np
from PIL import Image

from thalweg.predictions.image import ImageGrid
from thalweg.runs.artifacts import write_examples, write_samples, write_time_lapse
from thalweg.runs.run_dir import RunDir


def draw_grid(level: int, count: int = 4) -> ImageGrid:
    return ImageGrid("samples", np.full((count, 8, 8, 1), level, np.uint8))


def test_examples_have_their_names_and_are_no_samples(tmp_path):
    run_dir = RunDir(tmp_path)
    write_examples(run_dir, {"real": draw_grid(90)})
    write_samples(run_dir, 5, [draw_grid(10)])
    write_time_lapse(run_dir)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["00000005.png", "real.png"]


def test_the_time_lapse_has_a_frame_per_validation_in_order(tmp_path):
    run_dir = RunDir(tmp_path)
    for step, level in ((100, 200), (5, 10), (20, 100)):
        write_samples(run_dir, step, [draw_grid(level)])
    write_time_lapse(run_dir)
    with Image.open(tmp_path / "samples" / "time_lapse.gif") as gif:
        levels = []
        for index in range(gif.n_frames):
            gif.seek(index)
            levels.append(gif.convert("L").getpixel((20, 20)))
    np.testing.assert_allclose(levels, [10, 100, 200], atol=6)


def test_samples_of_several_sizes_or_without_images_have_no_time_lapse(tmp_path):
    run_dir = RunDir(tmp_path)
    write_time_lapse(run_dir)
    for step, count in ((1, 4), (2, 9)):
        write_samples(run_dir, step, [draw_grid(50, count)])
    write_time_lapse(run_dir)
    assert not (tmp_path / "samples" / "time_lapse.gif").exists()
