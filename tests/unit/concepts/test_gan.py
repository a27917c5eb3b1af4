"""The concept gan: gradients against finite differences, modes on constructed points, collapse made and cured."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import thalweg
from thalweg.concepts.gan.compute import GanSettings, build_run, compare_pairs, gan
from thalweg.concepts.gan.curves import average_bins
from thalweg.concepts.gan.losses import LOSSES, measure_gradient
from thalweg.concepts.gan.plane import Coverage, find_modes, grid_centers, make_points, measure_coverage, ring_centers
from thalweg.concepts.gan.players import iter_steps
from thalweg.concepts.gan.train_points import Plane, build_players, map_realness, to_realness, train_points
from thalweg.errors import DataError, NotFoundError, OptionError

QUICK = {"steps": 6, "width": 8, "batch_size": 16, "points": 60}


@pytest.fixture(scope="module")
def default():
    """The concept with its default settings."""
    return gan(GanSettings())


def make_plane(count: int = 64) -> Plane:
    """Return a ring that is moved and stretched, so that standardization shows."""
    points_N2, modes = make_points("ring", count, 0.05, np.random.default_rng(0))
    return Plane(points_N2 * [2.0, 0.5] + [3.0, -1.0], (0.0, 6.0, -2.0, 0.0), modes)


# --- mathematics ------------------------------------------------------------------------------------------------------


def test_arrows_are_the_gradient_of_the_logit_by_finite_differences():
    plane = make_plane()
    run = build_run(GanSettings(steps=5, seed=3), "points")
    (snapshot,) = train_points(plane, run, 8, [0]).snapshots
    torch.manual_seed(3)
    discriminator = build_players(8).discriminator.double()
    arrows_n4 = np.array(snapshot["arrows"])
    epsilon = 1e-5

    def logit(points_n2: np.ndarray) -> np.ndarray:
        x_n2 = torch.from_numpy((points_n2 - plane.points_N2.mean(0)) / plane.points_N2.std(0))
        return discriminator(x_n2).detach().numpy()

    for axis in range(2):
        offset_2 = epsilon * np.eye(2)[axis]
        slope_n = (logit(arrows_n4[:, :2] + offset_2) - logit(arrows_n4[:, :2] - offset_2)) / (2 * epsilon)
        # points and arrows are rounded, and the slope jumps where a leaky ReLU has its kink
        assert np.isclose(arrows_n4[:, 2 + axis], slope_n, rtol=2e-3, atol=1e-5).mean() > 0.9


def test_the_gradient_of_a_linear_discriminator_is_its_slope():
    class Linear(torch.nn.Module):
        def forward(self, x_BX: torch.Tensor) -> torch.Tensor:
            return x_BX.flatten(1) @ torch.tensor([3.0, 4.0])

    assert measure_gradient(Linear(), torch.randn(5, 2)).tolist() == [[3.0, 4.0]] * 5


def test_minimax_is_the_other_side_of_what_the_discriminator_minimizes():
    """The discriminator gives a generated example the probability 0.3."""
    fake_B = torch.tensor([math.log(3 / 7)])
    assert LOSSES["minimax"].generator(fake_B, fake_B).item() == pytest.approx(math.log(0.7))


def test_only_the_saturating_loss_has_no_gradient_where_the_discriminator_is_sure():
    gradient = {}
    for name in ("minimax", "logistic"):
        fake_B = torch.tensor([-12.0], requires_grad=True)
        LOSSES[name].generator(fake_B, fake_B).backward()
        gradient[name] = abs(fake_B.grad.item())
    assert gradient["minimax"] < 1e-5 and gradient["logistic"] > 0.999


def test_realness_is_what_the_loss_asks_for():
    logit_B = torch.tensor([-3.0, 0.0, 0.5, 1.0, 4.0])
    middle = torch.tensor(0.5)
    assert to_realness(logit_B, "hinge", middle).tolist() == [0.0, 0.5, 0.75, 1.0, 1.0]
    assert to_realness(logit_B, "least_squares", middle).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert to_realness(logit_B, "logistic", middle)[1] == 0.5 == to_realness(logit_B, "wasserstein", middle)[2]


def test_the_first_row_of_the_map_is_at_the_bottom():
    class Height(torch.nn.Module):
        def forward(self, x_N2: torch.Tensor) -> torch.Tensor:
            return x_N2[:, 1]

    realness_GG = map_realness(Height(), make_plane(), torch.zeros(3, 2), "logistic")
    assert (np.diff(realness_GG, axis=0) > 0).all() and np.ptp(realness_GG, axis=1).max() < 1e-6


# --- modes ------------------------------------------------------------------------------------------------------------


def test_modes_are_counted_on_constructed_points():
    _, modes = make_points("ring", 800, 0.05, np.random.default_rng(0))
    center_M2 = ring_centers()
    assert measure_coverage(np.repeat(center_M2, 10, axis=0), modes) == Coverage(8, 1.0)
    assert measure_coverage(np.repeat(center_M2[:3], 10, axis=0), modes) == Coverage(3, 1.0)
    assert measure_coverage(np.zeros((50, 2)), modes) == Coverage(0, 0.0)
    # within three standard deviations, and not beyond
    assert measure_coverage(center_M2 * 1.149, modes).good_fraction == 1.0
    assert measure_coverage(center_M2 * 1.151, modes).good_fraction == 0.0
    # a mode needs a quarter of its eighth: 3 of 96 points
    for count, covered in ((2, 1), (3, 2)):
        points_n2 = np.repeat(center_M2[:2], [96 - count, count], axis=0)
        assert measure_coverage(points_n2, modes).covered == covered


@pytest.mark.parametrize("name", ["moons", "spirals"])
def test_real_points_cover_their_own_regions_and_a_part_covers_a_part(name):
    random = np.random.default_rng(0)
    _, modes = make_points(name, 1000, 0.05, random)
    fresh_n2 = make_points(name, 1000, 0.05, random)[0]
    whole = measure_coverage(fresh_n2, modes)
    assert whole.covered == 8 and whole.good_fraction > 0.9
    right_n2 = fresh_n2[fresh_n2[:, 0] > 0.5]
    assert 1 <= measure_coverage(right_n2, modes).covered <= 5
    assert measure_coverage(fresh_n2 + 10, modes) == Coverage(0, 0.0)


def test_few_and_equal_points_have_modes_too():
    modes = find_modes(np.repeat([[0.0, 0.0], [1.0, 1.0]], 6, axis=0))
    assert sorted(modes.center_M2[:, 0].tolist()) == [0.0, 1.0] and modes.fraction_M.tolist() == [0.5, 0.5]
    assert len(grid_centers()) == 25 and len(find_modes(np.ones((10, 2))).center_M2) == 1


# --- training ---------------------------------------------------------------------------------------------------------


def test_the_cured_run_covers_all_modes_where_the_other_collapses(default):
    collapsed, cured = default.numbers["runs"]
    assert cured["snapshots"][-1]["covered"] == 8 and cured["snapshots"][-1]["good_fraction"] > 0.6
    assert max(collapsed["coverage"]["covered"]) <= 3 and collapsed["snapshots"][-1]["good_fraction"] < 0.5
    assert default.key_numbers["R1 penalty 1"].startswith("8 of 8 modes")
    # the same but for the penalty
    changed = {key for key in cured["run"] if cured["run"][key] != collapsed["run"][key]}
    assert changed == {"label", "r1"}
    assert cured["snapshots"][0] == collapsed["snapshots"][0]


def test_losses_start_near_those_of_a_discriminator_that_knows_nothing(default):
    for result in default.numbers["runs"]:
        assert result["discriminator_loss"][0] == pytest.approx(2 * math.log(2), abs=0.05)
        assert result["generator_loss"][0] == pytest.approx(math.log(2), abs=0.05)


def test_arrows_fade_with_the_penalty(default):
    lengths = [
        np.hypot(*np.array(result["snapshots"][-1]["arrows"])[:, 2:].T).mean() for result in default.numbers["runs"]
    ]
    assert lengths[1] < lengths[0] / 2


def test_the_result_is_a_function_of_the_seed_and_leaves_the_random_state():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first = gan(GanSettings(**QUICK, seed=1)).numbers
    torch.rand(3)
    assert gan(GanSettings(**QUICK, seed=1)).numbers == first
    assert gan(GanSettings(**QUICK, seed=2)).numbers != first
    torch.random.set_rng_state(state)
    gan(GanSettings(**QUICK))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_and_both_penalties_train(loss):
    result = gan(GanSettings(**QUICK, loss=loss, gradient_penalty=0.5, generator_steps=2, discriminator_steps=2))
    assert [len(run["discriminator_loss"]) for run in result.numbers["runs"]] == [6, 6]
    assert list(result.key_numbers)[:2] == ["no penalty", "R1 penalty 1 and gradient penalty 0.5"]


def test_the_first_step_moves_the_generator_uphill():
    plane = make_plane()
    torch.manual_seed(0)
    players = build_players(16)
    latent_BL = torch.randn(200, players.latent_dim)
    before = players.discriminator(players.generator(latent_BL)).mean().item()
    frozen = {key: value.clone() for key, value in players.discriminator.state_dict().items()}
    run = build_run(GanSettings(steps=1, discriminator_lr=0.0), "points")
    assert len(list(iter_steps(players, plane.standardize(plane.points_N2), run))) == 1
    assert players.discriminator(players.generator(latent_BL)).mean().item() > before
    assert all(torch.equal(value, frozen[key]) for key, value in players.discriminator.state_dict().items())


def test_without_a_penalty_one_run_is_shown():
    result = gan(GanSettings(**QUICK, r1=0.0))
    assert len(result.numbers["runs"]) == 1
    images = [frame.draw() for frame in (result.frames[0], result.frames[-1])]
    assert images[0].size == images[1].size


def test_a_run_that_diverges_ends_with_its_last_numbers():
    result = gan(GanSettings(**QUICK, loss="least_squares", generator_lr=1e15))
    for run in result.numbers["runs"]:
        assert len(run["generator_loss"]) == run["diverged_at"] < QUICK["steps"]
        assert np.isfinite(run["generator_loss"]).all() and len(run["snapshots"]) == 1
    assert "diverged at step" in result.key_numbers["no penalty"]
    assert len(result.frames) == 1 and result.frames[-1].draw().width == 1800
    assert json.dumps(result.numbers, allow_nan=False)


def test_curves_keep_their_first_value_and_their_mean():
    value_S = np.arange(1000.0)
    step_P, mean_P = average_bins(value_S)
    assert len(step_P) <= 170 and mean_P[0] == 0 and mean_P[1] == value_S[step_P[1] : step_P[2]].mean()
    assert average_bins(np.arange(3.0))[1].tolist() == [0, 1, 2] and not len(average_bins(np.zeros(0))[0])


# --- input of the user ------------------------------------------------------------------------------------------------


def test_a_table_needs_no_labels(tmp_path):
    rows = [(10 + 0.5 * i, 100 * (-1) ** i + i, i % 2) for i in range(24)]
    plain = tmp_path / "plain.csv"
    plain.write_text("width;height\n" + "".join(f"{x:g};{y:g}\n" for x, y, _ in rows))
    labeled = tmp_path / "labeled.csv"
    labeled.write_text("height,label,width\n" + "".join(f"{y},{k},{x}\n" for x, y, k in rows))
    result = thalweg.explain("gan", plain, **QUICK | {"points": 2000}).result
    assert result.numbers["axes"] == ["width", "height"] and result.numbers["dataset"] == "plain.csv"
    assert result.numbers["real"][2] == [11.0, 102.0] and result.numbers["mode"] == "region"
    left, right, bottom, top = result.numbers["window"]
    assert left < 10 < 21.5 < right and bottom < -99 < 122 < top
    named = thalweg.explain("gan", labeled, columns=["width", "height"], steps=2, width=4).result
    assert named.numbers["real"] == result.numbers["real"] and named.numbers["axes"] == ["width", "height"]
    assert thalweg.explain("gan", labeled, steps=2, width=4).result.numbers["axes"] == ["height", "width"]
    array = thalweg.explain("gan", np.array([row[:2] for row in rows]), steps=2, width=4).result
    assert array.numbers["real"] == result.numbers["real"]


def test_a_folder_of_images_is_learned_from(tmp_path):
    random = np.random.default_rng(0)
    for index in range(12):
        pixels = np.zeros((20, 30, 3), np.uint8)
        pixels[5:15, 8 + index % 4 : 20] = random.integers(150, 255, 3)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    first = thalweg.explain("gan", tmp_path, steps=4, width=4, batch_size=4).result
    again = thalweg.explain("gan", str(tmp_path), steps=4, width=4, batch_size=4).result
    assert first.numbers == again.numbers and first.numbers["num_real"] == 12
    (run,) = first.numbers["runs"]
    snapshot = run["snapshots"][-1]
    assert np.array(snapshot["generated"]).shape == (8, 16, 16, 3) and np.array(snapshot["wanted"]).shape == (8, 16, 16)
    assert run["generator_loss"][0] == pytest.approx(math.log(2), abs=0.1)
    sizes = {first.frames[index].draw().size for index in (0, -1)}
    assert len(sizes) == 1


def test_points_far_from_zero_keep_their_places():
    points_N2 = np.random.default_rng(0).normal(size=(50, 2)) * [1e-9, 1e3] + [0.0, 1e8]
    shown_N2 = np.array(gan(GanSettings(steps=1, width=4), points=points_N2).numbers["real"])
    assert np.abs((shown_N2 - points_N2) / points_N2.std(0)).max() < 1e-3


def test_pairs_are_compared_by_their_logits():
    assert compare_pairs({"real_logits": [2.0, 1.0], "fake_logits": [0.0, 1.5]}) == 0.75
    assert compare_pairs({"real_logits": [1.0], "fake_logits": [1.0]}) == 0.5


def test_wrong_input_is_refused_with_its_data(tmp_path):
    with pytest.raises(NotFoundError):
        thalweg.explain("gan", tmp_path / "missing.csv")
    with pytest.raises(NotFoundError):
        thalweg.explain("gan", tmp_path / "missing")
    few = tmp_path / "few.csv"
    few.write_text("x,y\n1,2\n2,3\n")
    with pytest.raises(DataError) as data_error:
        thalweg.explain("gan", few)
    assert data_error.value.value == 2
    one = tmp_path / "one.csv"
    one.write_text("x,name\n" + "".join(f"{i * i},n{i}\n" for i in range(12)))
    with pytest.raises(DataError) as data_error:
        thalweg.explain("gan", one)
    assert data_error.value.value == ["x"]
    with pytest.raises(OptionError) as option_error:
        thalweg.explain("gan", one, columns=["x", "name", "x"])
    assert option_error.value.option == "columns"
    with pytest.raises(OptionError) as option_error:
        thalweg.explain("gan", 7)
    assert option_error.value.value == "int"
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (20, 20)).save(folder / "a.png")
    with pytest.raises(DataError) as data_error:
        thalweg.explain("gan", folder)
    assert data_error.value.value == 1


@pytest.mark.parametrize("option", ["dataset", "columns"])
def test_settings_that_contradict_the_input_are_refused(option):
    points = {"points": np.random.default_rng(0).random((20, 2)), "title": "mine"}
    value, inputs = {"dataset": ("moons", points), "columns": (["x", "y"], {})}[option]
    with pytest.raises(OptionError) as error:
        gan(GanSettings(**{option: value}), **inputs)
    assert error.value.option == option and error.value.value == value
