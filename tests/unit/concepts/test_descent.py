"""Optimizers on test functions: closed forms, update rules in NumPy, published minima, and formulas of the user."""

import json
import math
import warnings

import numpy as np
import pytest
import torch

import thalweg
from thalweg.cli import main as cli
from thalweg.concepts.descent.compute import ALL_OPTIMIZERS
from thalweg.concepts.descent.optimizer_paths import default_lrs, run_optimizer
from thalweg.concepts.descent.test_functions import TEST_FUNCTIONS, VALLEY_RATIO, from_formula
from thalweg.engine.config import TrainConfig
from thalweg.errors import NotFoundError, OptionError

SURFACES = {**TEST_FUNCTIONS, "formula": from_formula("sin(x)*exp(y/3) + max(x, y)^2 / (1 + x^2)")}


def run(*names, **settings) -> dict[str, dict]:
    """Run the optimizers and return the numbers of each."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rendered = thalweg.explain("descent", optimizers=list(names), **settings)
    return {path["name"]: path for path in rendered.result.numbers["optimizers"]}


# --- optimizers ------------------------------------------------------------------------------------------------------


def test_sgd_on_a_quadratic_matches_its_closed_form():
    path = np.array(run("sgd", surface="valley", lr=0.03, steps=40, start=[-3, 2])["sgd"]["path"])
    n = np.arange(41)
    expected = np.stack([-3 * (1 - 0.03) ** n, 2 * (1 - 0.03 * VALLEY_RATIO) ** n], 1)
    np.testing.assert_allclose(path, expected, rtol=1e-12)


def test_momentum_on_a_quadratic_matches_its_recurrence():
    """w(n+1) = w(n) - η λ w(n) + β (w(n) - w(n-1)) for a gradient of λ w (Polyak 1964)."""
    path = np.array(
        run("momentum", surface="valley", lr=0.01, momentum=0.8, steps=30, start=[2, 1])["momentum"]["path"]
    )
    curvatures = np.array([1, VALLEY_RATIO])
    np.testing.assert_allclose(path[1], path[0] * (1 - 0.01 * curvatures), rtol=1e-12)
    for before, now, after in zip(path, path[1:], path[2:], strict=False):
        np.testing.assert_allclose(after, now - 0.01 * curvatures * now + 0.8 * (now - before), atol=1e-12)


def reference_path(name: str, w: np.ndarray, lr: float, steps: int, beta: float, decay: float) -> np.ndarray:
    """The papers' update rules on Rosenbrock's function, with the constants of the package."""
    m = np.zeros(2)
    s = np.zeros(2)
    d = np.zeros(2)
    path = [w]
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
            m = beta * m + (1 - beta) * g
            s = 0.999 * s + 0.001 * g**2
            w = w - lr * (m / (1 - beta**t)) / (np.sqrt(s / (1 - 0.999**t)) + 1e-8)
        path.append(w)
    return np.array(path)


@pytest.mark.parametrize(
    ("name", "lr"),
    [("nesterov", 5e-4), ("adagrad", 0.2), ("adadelta", 5.0), ("rmsprop", 0.03), ("adam", 0.1), ("adamw", 0.1)],
)
def test_every_update_rule_matches_its_paper(name, lr):
    paths = run(name, surface="rosenbrock", lr=lr, momentum=0.85, weight_decay=0.3, steps=25, start=[-0.5, 1.8])[name]
    np.testing.assert_allclose(paths["path"], reference_path(name, np.array([-0.5, 1.8]), lr, 25, 0.85, 0.3), rtol=1e-9)


def test_momentum_and_nesterov_without_momentum_equal_sgd():
    paths = run("sgd", "momentum", "nesterov", surface="himmelblau", lr=0.005, momentum=0, steps=20)
    assert paths["sgd"]["path"] == paths["momentum"]["path"] == paths["nesterov"]["path"]


@pytest.mark.parametrize("surface", ["valley", "himmelblau", "two-basins"])
def test_every_step_of_muon_has_the_length_that_the_text_says(surface):
    """The singular value of a 1 x 2 matrix is its length; five Newton-Schulz iterations map it to 0.696."""
    path = np.array(run("muon", surface=surface, lr=0.1, steps=60)["muon"]["path"])
    lengths = np.linalg.norm(np.diff(path, axis=0), axis=1)
    a, b, c, length = 3.4445, -4.7750, 2.0315, 1.0
    for _ in range(5):
        length = a * length + b * length**3 + c * length**5
    assert length == pytest.approx(0.7, abs=0.005)
    np.testing.assert_allclose(lengths, 0.1 * length, rtol=2e-4)
    _, *gradient = TEST_FUNCTIONS[surface].evaluate_at(path[0])
    expected = -np.array(gradient) / np.hypot(*gradient)
    np.testing.assert_allclose((path[1] - path[0]) / lengths[0], expected, rtol=1e-5)


def test_muon_converges_with_a_decaying_learning_rate():
    constant, cosine = (run("muon", steps=400, schedule=how)["muon"]["losses"][-1] for how in ("constant", "cosine"))
    assert cosine < constant / 100


def test_noise_depends_on_the_seed_only_and_is_the_same_for_all_optimizers():
    first, other_seed, no_noise = (
        run("sgd", "momentum", surface="noisy", momentum=0, lr=0.1, steps=30, **more)
        for more in ({}, {"seed": 1}, {"noise": 0})
    )
    assert first["sgd"]["path"] == first["momentum"]["path"]
    assert first == run("sgd", "momentum", surface="noisy", momentum=0, lr=0.1, steps=30)
    assert len({str(paths["sgd"]["path"]) for paths in (first, other_seed, no_noise)}) == 3


def test_noise_has_the_requested_standard_deviation():
    paths = run("sgd", formula="0", lr=1, noise=0.5, steps=2000, window=[-500, 500, -500, 500], start=[0, 0])
    steps = np.diff(np.array(paths["sgd"]["path"]), axis=0)
    assert steps.std() == pytest.approx(0.5, rel=0.05) and abs(steps.mean()) < 0.05


# --- test functions --------------------------------------------------------------------------------------------------

PUBLISHED = {
    "rosenbrock": [(1, 1)],
    "beale": [(3, 0.5)],
    "himmelblau": [(3, 2), (-2.805118, 3.131312), (-3.779310, -3.283186), (3.584428, -1.848126)],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_loss_and_gradient_are_zero_at_published_minima(name):
    assert sorted(TEST_FUNCTIONS[name].minima) == sorted(PUBLISHED[name])
    for minimum in PUBLISHED[name]:
        np.testing.assert_allclose(TEST_FUNCTIONS[name].evaluate_at(minimum), 0, atol=1e-4)


@pytest.mark.parametrize("name", TEST_FUNCTIONS)
def test_minima_are_local_minima_and_the_first_is_global(name):
    surface = TEST_FUNCTIONS[name]
    losses = [surface.evaluate_at(minimum)[0] for minimum in surface.minima]
    assert losses[0] == pytest.approx(min(losses), abs=1e-9) and losses[0] == pytest.approx(0, abs=1e-9)
    for (x, y), loss in zip(surface.minima, losses, strict=True):
        np.testing.assert_allclose(surface.evaluate_at((x, y))[1:], 0, atol=1e-4)
        for angle in np.linspace(0, 2 * math.pi, 16):
            assert surface.evaluate_at((x + 0.05 * math.cos(angle), y + 0.05 * math.sin(angle)))[0] > loss


@pytest.mark.parametrize("name", SURFACES)
def test_gradient_and_curvature_match_finite_differences(name):
    surface = SURFACES[name]
    step = 1e-5
    left, right, bottom, top = surface.window
    random = np.random.default_rng(3)
    for x, y in zip(random.uniform(left, right, 12), random.uniform(bottom, top, 12), strict=True):
        at = {(i, j): surface.evaluate_at((x + i * step, y + j * step)) for i in (-1, 0, 1) for j in (-1, 0, 1)}
        expected = [(at[1, 0][0] - at[-1, 0][0]) / (2 * step), (at[0, 1][0] - at[0, -1][0]) / (2 * step)]
        np.testing.assert_allclose(at[0, 0][1:], expected, rtol=1e-5, atol=1e-4)
        hessian = [
            [(at[1, 0][k] - at[-1, 0][k]) / (2 * step), (at[0, 1][k] - at[0, -1][k]) / (2 * step)] for k in (1, 2)
        ]
        largest = np.abs(np.linalg.eigvalsh(np.array(hessian))).max()
        curvature = surface.max_curvature(torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64))
        assert float(curvature) == pytest.approx(largest, rel=1e-3, abs=1e-3)


def test_sgd_stays_in_the_local_minimum_and_momentum_reaches_the_global_one():
    paths = run("sgd", "momentum", "nesterov", surface="two-basins")
    local_minimum = (-1, 0)
    global_minimum = (2, 0)
    np.testing.assert_allclose(paths["sgd"]["path"][-1], local_minimum, atol=1e-3)
    assert paths["sgd"]["losses"][-1] == pytest.approx(2.25, abs=1e-6)
    for name in ("momentum", "nesterov"):
        np.testing.assert_allclose(paths[name]["path"][-1], global_minimum, atol=1e-2)
    # SGD also stays there with the learning rate of momentum
    sgd = run("sgd", surface="two-basins", lr=paths["momentum"]["lr"])["sgd"]
    np.testing.assert_allclose(sgd["path"][-1], local_minimum, atol=1e-2)


def test_sgd_slows_down_at_the_saddle_point_and_leaves_it():
    losses = np.array(run("sgd", surface="saddle")["sgd"]["losses"])
    assert (np.abs(losses - 0.25) < 0.01).sum() > 10 and losses[-1] < 1e-6


# --- learning rates, windows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEST_FUNCTIONS)
def test_all_optimizers_reduce_the_loss_with_default_learning_rates(name):
    paths = run("all", surface=name)
    assert list(paths) == list(ALL_OPTIMIZERS) and len(ALL_OPTIMIZERS) == 9
    for path in paths.values():
        assert not path["stop_reason"] and len(path["losses"]) == len(path["path"]) == 151
        assert path["losses"][-1] < 0.6 * path["losses"][0], path["name"]


def test_default_learning_rate_of_sgd_is_a_fraction_of_one_over_the_curvature():
    assert default_lrs(TEST_FUNCTIONS["valley"], ["sgd", "momentum"]) == [
        1.5 / VALLEY_RATIO,
        0.5 / VALLEY_RATIO,
    ]
    flat = default_lrs(from_formula("x + 2*y"), ["sgd"])[0]
    assert 0 < flat < 1
    assert all(lr > 0 for lr in default_lrs(from_formula("3"), ALL_OPTIMIZERS))


def test_a_diverging_optimizer_stops_and_the_others_continue():
    rendered = thalweg.explain("descent", optimizers="sgd,adam", lr=[5, 0.1], steps=200)
    sgd, adam = rendered.result.numbers["optimizers"]
    assert sgd["stop_reason"] == "diverged" and len(sgd["path"]) < 20
    assert adam["stop_reason"] == "" and len(adam["path"]) == 201
    assert any("SGD" in note and "diverged" in note for note in rendered.result.notes)
    assert "SGD" in rendered.result.frames[-1].caption and adam["losses"][-1] < 1e-3
    rendered.draw()
    json.dumps(rendered.json(), allow_nan=False)


def test_a_path_stops_where_the_loss_is_not_finite():
    result = thalweg.explain("descent", formula="log(x) + y^2", optimizers="adagrad", start=[1, 1], steps=50).result
    (path,) = result.numbers["optimizers"]
    assert path["stop_reason"] == "not finite" and np.isfinite(path["losses"]).all()
    assert result.numbers["grid"]["undefined_fraction"] > 0
    assert None in result.numbers["grid"]["loss"][0]
    assert sum("not finite" in note for note in result.notes) == 2


def test_leaving_the_window_is_recorded():
    result = thalweg.explain("descent", formula="x + y", optimizers="sgd", lr=0.5, steps=30).result
    (path,) = result.numbers["optimizers"]
    assert path["left_window_at"] == 3 and path["ends_outside"] and not path["stop_reason"]
    assert any("SGD from step 3" in note for note in result.notes)


def test_windows_follow_the_settings_or_the_start_point():
    numbers = thalweg.explain("descent", surface="beale", window=[1, 4, -1, 2], steps=5).result.numbers
    assert numbers["window"] == [1, 4, -1, 2] and numbers["grid"]["axis_x"][::100] == [1, 4]
    assert numbers["start"] == [1, 1.5]
    extended = thalweg.explain("descent", surface="beale", start=[20, 3], steps=5).result.numbers
    assert extended["window"][1] > 20 and extended["window"][0] == -4.5
    chosen = thalweg.explain("descent", formula="sqrt(x)", steps=5).result.numbers
    assert chosen["start"][0] > 0


def test_a_formula_equals_the_function_it_describes():
    grid = thalweg.explain("descent", formula="x**2 + sin(3*y)", steps=5).result.numbers["grid"]
    x, y = np.meshgrid(grid["axis_x"], grid["axis_y"])
    np.testing.assert_allclose(grid["loss"], x**2 + np.sin(3 * y), atol=1e-4)
    expected = run("all", surface="rosenbrock", lr=0.001, steps=20)
    paths = run("all", formula="(1-x)^2 + 100*(y-x^2)^2", lr=0.001, steps=20, start=[-0.6, 2.4])
    for name in ALL_OPTIMIZERS:
        np.testing.assert_allclose(expected[name]["path"], paths[name]["path"], rtol=1e-6)


@pytest.mark.parametrize("formula", ["3", "x", "abs(x) + abs(y)", "1e300*x", "exp(exp(x*y))", "-1e-12*x^2", "1/(x*y)"])
def test_unusual_surfaces_are_drawn(formula):
    rendered = thalweg.explain("descent", formula=formula, steps=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rendered.draw().size == rendered.draw(1).size == (1800, 1200)
    json.dumps(rendered.json(), allow_nan=False)


@pytest.mark.parametrize("steps", [1, 2, 7, 2000])
def test_frames_include_the_first_and_the_last_step(steps):
    rendered = thalweg.explain("descent", optimizers="sgd", steps=steps)
    shown_steps = [frame.args[1] for frame in rendered.result.frames]
    assert shown_steps[0] == 0 and shown_steps[-1] == steps
    assert len(set(shown_steps)) == len(shown_steps) <= 30


@pytest.mark.parametrize("surface", ["valley", "rosenbrock"])
def test_contour_levels_ascend(surface):
    grid = thalweg.explain("descent", surface=surface, optimizers="sgd", steps=1).result.numbers["grid"]
    levels = grid["contour_levels"]
    assert levels == sorted(set(levels)) and len(levels) >= 8
    assert levels[1] / levels[0] < 10 and levels[-1] / levels[0] > 30


# --- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "option"),
    [
        ({"surface": "formula"}, "formula"),
        ({"surface": "beale", "formula": "x"}, "surface"),
        ({"formula": "sqrt(-1-x^2)"}, "start"),
        ({"formula": "log(x)", "start": [-1, 0]}, "start"),
        ({"optimizers": "sgd,adam", "lr": [0.1, 0.2, 0.3]}, "lr"),
        ({"start": [1]}, "start"),
        ({"window": [1, 2, 3]}, "window"),
        ({"window": [2, 1, 0, 1]}, "window"),
        ({"window": [1, 1.0000000001, 0, 1]}, "window"),
        ({"window": [0, 1, 0, 1], "start": [5, 5]}, "start"),
        ({"formula": "x $"}, "formula"),
    ],
)
def test_invalid_settings_are_rejected(settings, option):
    with pytest.raises(OptionError) as error:
        thalweg.explain("descent", **settings)
    assert error.value.option == option
    assert error.value.cure


def test_an_unknown_optimizer_is_rejected():
    with pytest.raises(NotFoundError) as error:
        thalweg.explain("descent", optimizers=["adamm"])
    assert error.value.value == "adamm"
    assert set(ALL_OPTIMIZERS) < set(error.value.allowed)


@pytest.mark.parametrize("setting", ["lr=-1", "steps=2001", "surface=hill", "optimizers=sgd,adm", "window=1,2,3"])
def test_invalid_settings_exit_with_code_2_and_say_what_is_expected(setting, capsys):
    assert cli.invoke(["explain", "descent", "--set", setting]) == 2
    error = capsys.readouterr().err
    lines = error.splitlines()
    assert lines[0].startswith("error: ") and (len(lines) >= 2 or "; expected " in lines[0])
    name, value = setting.split("=")
    assert name in error or value.split(",")[-1] in error


def test_running_an_optimizer_leaves_the_global_random_state_alone():
    config = TrainConfig(optimizer="adam", lr=0.1, steps=10, schedule="constant")
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    surface = TEST_FUNCTIONS["noisy"]
    assert run_optimizer(surface, config, seed=3) == run_optimizer(surface, config, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
