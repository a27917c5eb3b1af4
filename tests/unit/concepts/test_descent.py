"""Descent: closed forms, update rules in NumPy, published minima, and what is done with a formula of the user."""

import json
import math
import warnings

import numpy as np
import pytest
import torch

import thalweg
from thalweg.cli import main as cli
from thalweg.concepts.descent import optimizer_paths as downhill
from thalweg.concepts.descent.compute import ALL_OPTIMIZERS
from thalweg.concepts.descent.test_functions import TEST_FUNCTIONS, VALLEY_RATIO, from_formula
from thalweg.engine.config import TrainConfig
from thalweg.errors import NotFoundError, OptionError

HILLS = {**TEST_FUNCTIONS, "formula": from_formula("sin(x)*exp(y/3) + max(x, y)^2 / (1 + x^2)")}


def walked(*names, **settings) -> dict[str, dict]:
    """The numbers of each optimiser."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shown = thalweg.explain("descent", optimizers=list(names), **settings)
    return {one["name"]: one for one in shown.result.numbers["optimizers"]}


# --- the optimisers --------------------------------------------------------------------------------------------------


def test_sgd_shrinks_each_direction_of_a_quadratic_by_its_own_factor():
    path = np.array(walked("sgd", surface="valley", lr=0.03, steps=40, start=[-3, 2])["sgd"]["path"])
    n = np.arange(41)
    expected = np.stack([-3 * (1 - 0.03) ** n, 2 * (1 - 0.03 * VALLEY_RATIO) ** n], 1)
    np.testing.assert_allclose(path, expected, rtol=1e-12)


def test_momentum_follows_the_recurrence_of_two_terms():
    """w(n+1) = w(n) - η λ w(n) + β (w(n) - w(n-1)) for a slope of λ w (Polyak 1964)."""
    path = np.array(
        walked("momentum", surface="valley", lr=0.01, momentum=0.8, steps=30, start=[2, 1])["momentum"]["path"]
    )
    slopes = np.array([1, VALLEY_RATIO])
    np.testing.assert_allclose(path[1], path[0] * (1 - 0.01 * slopes), rtol=1e-12)
    for before, now, after in zip(path, path[1:], path[2:], strict=False):
        np.testing.assert_allclose(after, now - 0.01 * slopes * now + 0.8 * (now - before), atol=1e-12)


def by_hand(name: str, w: np.ndarray, lr: float, steps: int, beta: float, decay: float) -> np.ndarray:
    """The papers' update rules on Rosenbrock's function, with the constants that the package uses."""
    m, s, d, path = np.zeros(2), np.zeros(2), np.zeros(2), [w]
    for t in range(1, steps + 1):
        x, y = w
        g = np.array([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)])
        if name == "nesterov":
            m = beta * m + g
            w = w - lr * (g + beta * m)
        elif name == "adagrad":
            s = s + g**2
            w = w - lr * g / (np.sqrt(s) + 1e-7)
        elif name == "adadelta":
            s = 0.9 * s + 0.1 * g**2
            step = np.sqrt(d + 1e-6) / np.sqrt(s + 1e-6) * g
            d = 0.9 * d + 0.1 * step**2
            w = w - lr * step
        elif name == "rmsprop":
            s = 0.99 * s + 0.01 * g**2
            w = w - lr * g / (np.sqrt(s) + 1e-8)
        elif name in ("adam", "adamw"):
            w = w * (1 - lr * decay) if name == "adamw" else w
            m, s = beta * m + (1 - beta) * g, 0.999 * s + 0.001 * g**2
            w = w - lr * (m / (1 - beta**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
        path.append(w)
    return np.array(path)


@pytest.mark.parametrize(
    ("name", "lr"),
    [("nesterov", 5e-4), ("adagrad", 0.2), ("adadelta", 5.0), ("rmsprop", 0.03), ("adam", 0.1), ("adamw", 0.1)],
)
def test_every_update_rule_is_the_one_of_its_paper(name, lr):
    found = walked(name, surface="rosenbrock", lr=lr, momentum=0.85, weight_decay=0.3, steps=25, start=[-0.5, 1.8])[
        name
    ]
    np.testing.assert_allclose(found["path"], by_hand(name, np.array([-0.5, 1.8]), lr, 25, 0.85, 0.3), rtol=1e-9)


def test_without_momentum_three_of_them_are_sgd():
    found = walked("sgd", "momentum", "nesterov", surface="himmelblau", lr=0.005, momentum=0, steps=20)
    assert found["sgd"]["path"] == found["momentum"]["path"] == found["nesterov"]["path"]


@pytest.mark.parametrize("surface", ["valley", "himmelblau", "two-basins"])
def test_every_step_of_muon_has_the_length_that_the_page_says(surface):
    """Of a matrix of one row the singular value is its length; five rounds of Newton and Schulz leave 0.696 of it."""
    path = np.array(walked("muon", surface=surface, lr=0.1, steps=60)["muon"]["path"])
    lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
    a, b, c, length = 3.4445, -4.7750, 2.0315, 1.0
    for _ in range(5):
        length = a * length + b * length**3 + c * length**5
    assert length == pytest.approx(0.7, abs=0.005)
    np.testing.assert_allclose(lengths, 0.1 * length, rtol=2e-4)
    _, *slope = TEST_FUNCTIONS[surface].at(path[0])
    np.testing.assert_allclose((path[1] - path[0]) / lengths[0], -np.array(slope) / np.hypot(*slope), rtol=1e-5)


def test_a_schedule_lets_muon_come_to_rest():
    still, falling = (walked("muon", steps=400, schedule=how)["muon"]["losses"][-1] for how in ("constant", "cosine"))
    assert falling < still / 100


def test_noise_is_the_same_for_all_and_the_same_again():
    """Two rates of nought move nothing; two equal optimisers go the same noisy way; another seed goes another."""
    one, other, none = (
        walked("sgd", "momentum", surface="noisy", momentum=0, lr=0.1, steps=30, **more)
        for more in ({}, {"seed": 1}, {"noise": 0})
    )
    assert one["sgd"]["path"] == one["momentum"]["path"]
    assert one == walked("sgd", "momentum", surface="noisy", momentum=0, lr=0.1, steps=30)
    assert len({str(found["sgd"]["path"]) for found in (one, other, none)}) == 3


def test_noise_has_the_deviation_that_is_asked_for():
    found = walked("sgd", formula="0", lr=1, noise=0.5, steps=2000, window=[-500, 500, -500, 500], start=[0, 0])
    steps = np.diff(np.array(found["sgd"]["path"]), axis=0)
    assert steps.std() == pytest.approx(0.5, rel=0.05) and abs(steps.mean()) < 0.05


# --- the surfaces ----------------------------------------------------------------------------------------------------

PUBLISHED = {
    "rosenbrock": [(1, 1)],
    "beale": [(3, 0.5)],
    "himmelblau": [(3, 2), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_minima_are_minima_of_nought(name):
    assert sorted(TEST_FUNCTIONS[name].minima) == sorted(PUBLISHED[name])
    for minimum in PUBLISHED[name]:
        np.testing.assert_allclose(TEST_FUNCTIONS[name].at(minimum), 0, atol=1e-4)


@pytest.mark.parametrize("name", TEST_FUNCTIONS)
def test_all_around_a_minimum_it_is_higher_and_the_first_is_the_lowest(name):
    surface = TEST_FUNCTIONS[name]
    losses = [surface.at(minimum)[0] for minimum in surface.minima]
    assert losses[0] == pytest.approx(min(losses), abs=1e-9) and losses[0] == pytest.approx(0, abs=1e-9)
    for (x, y), loss in zip(surface.minima, losses, strict=True):
        np.testing.assert_allclose(surface.at((x, y))[1:], 0, atol=1e-4)
        for angle in np.linspace(0, 2 * math.pi, 16):
            assert surface.at((x + 0.05 * math.cos(angle), y + 0.05 * math.sin(angle)))[0] > loss


@pytest.mark.parametrize("name", HILLS)
def test_every_slope_and_curvature_is_that_of_finite_differences(name):
    surface, step = HILLS[name], 1e-5
    left, right, lower, upper = surface.window
    random = np.random.default_rng(3)
    for x, y in zip(random.uniform(left, right, 12), random.uniform(lower, upper, 12), strict=True):
        at = {(i, j): surface.at((x + i * step, y + j * step)) for i in (-1, 0, 1) for j in (-1, 0, 1)}
        expected = [(at[1, 0][0] - at[-1, 0][0]) / (2 * step), (at[0, 1][0] - at[0, -1][0]) / (2 * step)]
        np.testing.assert_allclose(at[0, 0][1:], expected, rtol=1e-5, atol=1e-4)
        hessian = [
            [(at[1, 0][k] - at[-1, 0][k]) / (2 * step), (at[0, 1][k] - at[0, -1][k]) / (2 * step)] for k in (1, 2)
        ]
        largest = np.abs(np.linalg.eigvalsh(np.array(hessian))).max()
        found = surface.curvature(torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64))
        assert float(found) == pytest.approx(largest, rel=1e-3, abs=1e-3)


def test_in_the_nearer_basin_sgd_stays_and_momentum_rolls_over_the_ridge():
    found = walked("sgd", "momentum", "nesterov", surface="two-basins")
    nearer, deeper = (-1, 0), (2, 0)
    np.testing.assert_allclose(found["sgd"]["path"][-1], nearer, atol=1e-3)
    assert found["sgd"]["losses"][-1] == pytest.approx(2.25, abs=1e-6)
    for name in ("momentum", "nesterov"):
        np.testing.assert_allclose(found[name]["path"][-1], deeper, atol=1e-2)
    # not the rate: at the rate of momentum SGD stays as well
    again = walked("sgd", surface="two-basins", lr=found["momentum"]["rate"])["sgd"]
    np.testing.assert_allclose(again["path"][-1], nearer, atol=1e-2)


def test_at_the_saddle_sgd_loses_time_and_leaves_it():
    losses = np.array(walked("sgd", surface="saddle")["sgd"]["losses"])
    assert (np.abs(losses - 0.25) < 0.01).sum() > 10 and losses[-1] < 1e-6


# --- rates, windows, starts ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in TEST_FUNCTIONS])
def test_with_rates_of_its_own_nothing_diverges_and_all_get_lower(name):
    found = walked("all", surface=name)
    assert list(found) == list(ALL_OPTIMIZERS) and len(ALL_OPTIMIZERS) == 9
    for one in found.values():
        assert not one["ended"] and len(one["losses"]) == len(one["path"]) == 151
        assert one["losses"][-1] < 0.6 * one["losses"][0], one["name"]


def test_the_rate_of_sgd_is_a_share_of_one_over_the_curvature():
    assert downhill.default_lrs(TEST_FUNCTIONS["valley"], ["sgd", "momentum"]) == [
        1.5 / VALLEY_RATIO,
        0.5 / VALLEY_RATIO,
    ]
    flat = downhill.default_lrs(from_formula("x + 2*y"), ["sgd"])[0]
    assert 0 < flat < 1
    assert all(rate > 0 for rate in downhill.default_lrs(from_formula("3"), ALL_OPTIMIZERS))


def test_one_that_diverges_ends_and_the_others_go_on():
    shown = thalweg.explain("descent", optimizers="sgd,adam", lr=[5, 0.1], steps=200)
    sgd, adam = shown.result.numbers["optimizers"]
    assert sgd["ended"] == "far" and len(sgd["path"]) < 20 and adam["ended"] == "" and len(adam["path"]) == 201
    assert any("SGD" in note and "diverged" in note for note in shown.result.notes)
    assert "SGD" in shown.result.frames[-1].caption and adam["losses"][-1] < 1e-3
    shown.draw()
    json.dumps(shown.json(), allow_nan=False)


def test_a_path_that_comes_where_there_is_no_value_ends_there():
    shown = thalweg.explain("descent", formula="log(x) + y^2", optimizers="adagrad", start=[1, 1], steps=50)
    (one,) = shown.result.numbers["optimizers"]
    assert one["ended"] == "not finite" and np.isfinite(one["losses"]).all()
    assert any("no finite" in note for note in shown.result.notes)
    assert any("of the window the surface has no finite value" in note for note in shown.result.notes)
    assert None in shown.result.numbers["loss"][0]


def test_a_path_that_leaves_the_window_is_told():
    shown = thalweg.explain("descent", formula="x + y", optimizers="sgd", lr=0.5, steps=30)
    (one,) = shown.result.numbers["optimizers"]
    assert one["left"] == 3 and one["outside"] and not one["ended"]
    assert any("SGD from step 3" in note for note in shown.result.notes)


def test_windows_and_starts_of_ones_own():
    numbers = thalweg.explain("descent", surface="beale", window=[1, 4, -1, 2], steps=5).result.numbers
    assert numbers["window"] == [1, 4, -1, 2] and numbers["axis_x"][::100] == [1, 4]
    assert numbers["start"] == [1, 1.5]
    wide = thalweg.explain("descent", surface="beale", start=[20, 3], steps=5).result.numbers
    assert wide["window"][1] > 20 and wide["window"][0] == -4.5
    away = thalweg.explain("descent", formula="sqrt(x)", steps=5).result.numbers
    assert away["start"][0] > 0


def test_a_formula_is_the_surface_that_it_writes_down():
    numbers = thalweg.explain("descent", formula="x**2 + sin(3*y)", steps=5).result.numbers
    x, y = np.meshgrid(numbers["axis_x"], numbers["axis_y"])
    np.testing.assert_allclose(numbers["loss"], x**2 + np.sin(3 * y), atol=1e-4)
    known = walked("all", surface="rosenbrock", lr=0.001, steps=20)
    same = walked("all", formula="(1-x)^2 + 100*(y-x^2)^2", lr=0.001, steps=20, start=[-0.6, 2.4])
    for name in ALL_OPTIMIZERS:
        np.testing.assert_allclose(known[name]["path"], same[name]["path"], rtol=1e-6)


@pytest.mark.parametrize("formula", ["3", "x", "abs(x) + abs(y)", "1e300*x", "exp(exp(x*y))", "-1e-12*x^2", "1/(x*y)"])
def test_strange_surfaces_are_drawn(formula):
    shown = thalweg.explain("descent", formula=formula, steps=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert shown.draw().size == shown.draw(1).size == (1800, 1200)
    json.dumps(shown.json(), allow_nan=False)


@pytest.mark.parametrize("steps", [1, 2, 7, 2000])
def test_there_is_a_frame_for_the_first_and_the_last_step(steps):
    shown = thalweg.explain("descent", optimizers="sgd", steps=steps)
    given = [frame.args[1] for frame in shown.result.frames]
    assert given[0] == 0 and given[-1] == steps and len(set(given)) == len(given) <= 30


@pytest.mark.parametrize("surface", ["valley", "rosenbrock"])
def test_lines_are_at_rising_levels(surface):
    levels = thalweg.explain("descent", surface=surface, optimizers="sgd", steps=1).result.numbers["levels"]
    assert levels == sorted(set(levels)) and len(levels) >= 8
    assert levels[1] / levels[0] < 10 and levels[-1] / levels[0] > 30


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["surface=formula"], "There is no formula"),
        (["surface=beale", "formula=x"], "Both the surface beale and a formula"),
        (["formula=sqrt(-1-x^2)"], "Nowhere that was tried"),
        (["formula=log(x)", "start=-1,0"], "start: at (-1, 0) the loss or its slope is no finite number"),
        (["optimizers=sgd,adm"], "There is no optimizer named 'adm'"),
        (["optimizers=sgd,adam", "lr=0.1,0.2,0.3"], "There are 3 learning rates for 2 optimisers"),
        (["lr=-1"], "lr: -1 is not from 0 to 1000"),
        (["start=1"], "a point has 2 numbers, not 1"),
        (["window=1,2,3"], "window: 1,2,3 is none"),
        (["window=2,1,0,1"], "window: 2,1,0,1 is none"),
        (["window=1,1.0000000001,0,1"], "is none"),
        (["window=0,1,0,1", "start=5,5"], "start: (5, 5) is outside of the window"),
        (["steps=2001"], "steps: 2001 is not from 1 to 2000"),
        (["surface=hill"], "surface"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [word for setting in settings for word in ("--set", setting)]
    assert cli.invoke(["explain", "descent", *words]) == 2
    told = capsys.readouterr().err
    assert said in told and len(told.splitlines()) >= 2


def test_the_same_errors_in_python():
    with pytest.raises(NotFoundError, match="'adamw'|'adam'"):
        thalweg.explain("descent", optimizers=["adamm"])
    with pytest.raises(OptionError, match="at character 3"):
        thalweg.explain("descent", formula="x $")


def test_a_walk_without_steps_of_its_own_is_a_pure_function():
    recipe = TrainConfig(optimizer="adam", lr=0.1, steps=10, schedule="constant")
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    assert downhill.run_optimizer(TEST_FUNCTIONS["noisy"], recipe, 3) == downhill.run_optimizer(
        TEST_FUNCTIONS["noisy"], recipe, 3
    )
    assert torch.equal(before, torch.random.get_rng_state())
