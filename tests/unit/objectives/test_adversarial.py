"""The adversarial objective: phases by settings, lazy penalties, growth, mixing, adaptive augmentation, classes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.helpers.toy_objectives import (
    GrowingDiscriminator,
    GrowingGenerator,
    ToyDiscriminator,
    ToyGenerator,
    make_gan,
    make_growing,
)
from thalweg import registry
from thalweg.data.batches import InMemoryBatches
from thalweg.engine import checkpoint
from thalweg.engine.config import TrainConfig
from thalweg.engine.trainer import Trainer
from thalweg.losses.adversarial import LOSSES
from thalweg.models.generate.base import GanModel, GanTraining
from thalweg.objectives.adversarial import (
    ADA_IMAGES,
    ADA_INTERVAL,
    Adversarial,
    AdversarialSettings,
    fade_images,
    growth_at,
)


class Scaling(nn.Module):
    """Images that are latents times a parameter."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, z: Tensor) -> Tensor:
        return self.weight * z


def make_adversarial(**settings) -> Adversarial:
    torch.manual_seed(0)
    model = make_gan(nn.Linear(4, 1), ToyGenerator(Scaling(), latent_dim=4))
    return Adversarial(model, AdversarialSettings(**settings))


def make_images(**settings) -> Adversarial:
    torch.manual_seed(0)
    return Adversarial(
        GanModel(GrowingGenerator(4), GrowingDiscriminator(), GanTraining()), AdversarialSettings(**settings)
    )


def softplus(x: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(x))


# --- phases and losses ------------------------------------------------------------------------------------------------


def test_the_losses_are_those_of_the_paper():
    objective = make_adversarial()
    real = torch.randn(6, 4)

    def discriminate(x: Tensor) -> np.ndarray:
        return objective.gan.discriminator(x).detach().numpy()

    torch.manual_seed(5)
    fake = 2.0 * torch.randn(6, 4)
    torch.manual_seed(5)
    loss = objective.discriminator_loss({"image": real})
    expected = softplus(discriminate(fake)).mean() + softplus(-discriminate(real)).mean()
    assert loss.mean.item() == pytest.approx(expected, rel=1e-5) and loss.count == 6
    assert loss.metrics["real_logit"].item() == pytest.approx(discriminate(real).mean(), abs=1e-6)
    assert loss.metrics["fake_logit"].item() == pytest.approx(discriminate(fake).mean(), abs=1e-6)
    told_apart = np.concatenate([discriminate(real) > 0, discriminate(fake) < 0])
    assert loss.metrics["accuracy"].item() == pytest.approx(told_apart.mean())
    torch.manual_seed(5)
    loss = objective.generator_loss({"image": real})
    assert loss.mean.item() == pytest.approx(softplus(-discriminate(fake)).mean(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_gives_gradients_to_its_own_player_only(name):
    objective = make_adversarial(loss=name, drift=0.1)
    generator = objective.generator.layers.weight
    discriminator = objective.gan.discriminator.layers.weight
    objective.discriminator_loss({"image": torch.randn(3, 4)}).mean.backward()
    assert generator.grad is None and discriminator.grad is not None
    objective.generator_loss({"image": torch.randn(3, 4)}).mean.backward()
    assert generator.grad is not None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"r1": 0.0}, [("discriminator", 1, True), ("generator", 1, True)]),
        ({"r1": 1.0}, [("discriminator", 1, True), ("penalty", 16, False), ("generator", 1, True)]),
        ({"gradient_penalty": 10.0, "penalty_interval": 1}, [("discriminator", 1, False), ("generator", 1, True)]),
        (
            {"r1": 0.0, "path_length": 2.0},
            [("discriminator", 1, True), ("generator", 1, True), ("path_length", 4, False)],
        ),
    ],
)
def test_phases_follow_from_the_settings(settings, expected):
    phases = make_adversarial(**settings).phases()
    assert [(phase.name, phase.interval, phase.compile) for phase in phases] == expected
    assert all(phase.module is not None for phase in phases)


def test_settings_are_the_models_where_none_are_given():
    model = GanModel(ToyGenerator(), ToyDiscriminator(nn.Linear(16, 1)), GanTraining(loss="hinge", r2=0.5))
    assert Adversarial(model).settings == AdversarialSettings(loss="hinge", r2=0.5)


@pytest.mark.parametrize("settings", [{"r1": 2.0}, {"r1": 0.0, "r2": 3.0}, {"r1": 0.0, "gradient_penalty": 10.0}])
def test_a_lazy_penalty_has_the_gradient_of_one_in_every_step(settings):
    """Sixteen steps of a fixed batch: the penalty of every step, or one of sixteen times its size."""
    batch = {"image": torch.randn(5, 4)}
    sums = []
    for interval in (1, 16):
        objective = make_adversarial(**settings, penalty_interval=interval)
        for step in range(16):
            for phase in objective.phases()[:-1]:
                if phase.is_due(step):
                    torch.manual_seed(3)
                    phase.loss(batch).mean.backward()
        sums.append(objective.gan.discriminator.layers.weight.grad.clone())
    # the random point between two images is drawn after other numbers, but a linear discriminator is the same there
    torch.testing.assert_close(*sums, rtol=1e-4, atol=1e-5)


def test_the_penalty_of_a_linear_discriminator_is_half_its_squared_weights():
    objective = make_adversarial(r1=10.0)
    loss = objective.penalty_loss({"image": torch.randn(5, 4)})
    weight = objective.gan.discriminator.layers.weight
    torch.testing.assert_close(loss.mean, 16 * 10.0 / 2 * weight.square().sum())
    torch.testing.assert_close(loss.metrics["r1"], 10.0 / 2 * weight.square().sum().detach())
    assert loss.count == 5


def test_penalties_are_computed_in_float32_inside_autocast():
    objective = make_adversarial(r1=1.0, r2=1.0, penalty_interval=1)
    batch = {"image": torch.randn(5, 4)}
    expected = objective.penalty_loss(batch).mean
    with torch.autocast("cpu", torch.bfloat16):
        inside = objective.penalty_loss(batch).mean
        torch.manual_seed(1)
        loss = objective.phases()[0].loss(batch)
    assert torch.equal(inside, expected)
    torch.manual_seed(1)
    assert torch.equal(loss.mean, objective.phases()[0].loss(batch).mean)


# --- the generator ----------------------------------------------------------------------------------------------------


def test_path_lengths_are_drawn_to_their_mean():
    objective = make_images(path_length=2.0)
    batch = {"image": torch.randn(8, 1, 16, 16)}
    first = objective.path_length_loss(batch)
    length = first.metrics["length"]
    assert first.count == 4
    torch.testing.assert_close(objective.mean_path_length, 0.01 * length)
    first.mean.backward()
    assert all(layer.weight.grad.isfinite().all() for layer in objective.generator.levels)
    for _ in range(600):
        objective.mean_path_length.lerp_(objective.path_length_loss(batch).metrics["length"], 0.01)
    assert objective.mean_path_length.item() == pytest.approx(length.item(), rel=0.3)


def test_styles_of_mixed_images_change_once():
    objective = make_images(mixing=0.6)
    torch.manual_seed(0)
    style = objective.draw_styles(500)
    num_changes = (style[:, 1:] != style[:, :-1]).any(2).sum(1)
    assert num_changes.max() == 1 and num_changes.float().mean().item() == pytest.approx(0.6, abs=0.07)
    assert len({int(row) for row in (style[:, 1:] != style[:, :-1]).any(2).int().argmax(1)}) == 3
    assert torch.equal(make_images().draw_styles(3)[:, 0], make_images().draw_styles(3)[:, 3])


# --- growth -----------------------------------------------------------------------------------------------------------


def test_levels_are_held_and_fade_in_by_images():
    seen = torch.tensor([0, 99, 100, 150, 200, 299, 335, 400, 10_000])
    growth = growth_at(seen, torch.tensor(100), 3)
    np.testing.assert_allclose(growth, [0, 0, 0, 0.5, 1, 1, 1.35, 2, 2], atol=1e-6)
    assert growth_at(torch.tensor(5), torch.tensor(0), 3).item() == 2


def test_real_images_fade_in_as_the_networks_see_them():
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(fade_images(image, torch.tensor(2.0)), image)
    blocks = fade_images(image, torch.tensor(0.0))
    torch.testing.assert_close(blocks[:, :, ::4, ::4], nn.functional.avg_pool2d(image, 4))
    torch.testing.assert_close(blocks[:, :, 1::4, 2::4], blocks[:, :, ::4, ::4])
    half = nn.functional.avg_pool2d(image, 2)
    seen = nn.functional.avg_pool2d(fade_images(image, torch.tensor(1.25)), 1)
    expected = half.repeat_interleave(2, 2).repeat_interleave(2, 3).lerp(image, 0.25)
    torch.testing.assert_close(seen, expected)


def test_a_training_grows_in_half_of_its_images_and_resuming_it_for_longer_changes_nothing():
    torch.manual_seed(0)
    objective, batches = make_growing(8, 0, 1)
    objective.set_length(16 * 8)
    levels = []
    for batch in zip(range(10), batches, strict=False):
        objective.discriminator_loss(batch[1])
        levels.append(objective.generator.growth.item())
        assert torch.equal(objective.generator.growth, objective.gan.discriminator.growth)
    assert levels == [0, 0, 0, 0.5, 1, 1, 1, 1.5, 2, 2]
    saved = copy.deepcopy(objective.state_dict())
    objective.set_length(1000 * 8)
    objective.load_state_dict(saved)
    assert objective.growth_images == 16 and objective.images_seen == 80


@pytest.mark.parametrize("name", registry.get_models("generate"))
def test_a_model_that_can_grow_says_how_many_levels_it_has(name):
    """Else nothing would make it grow."""
    model = registry.get_models("generate")[name](in_channels=1, image_size=16)
    for network in (model.network, model.discriminator):
        growth = dict(network.named_buffers()).get("growth", torch.zeros(()))
        assert growth.item() == model.network.num_levels - 1


def test_two_ranks_grow_as_one():
    one, batches = make_growing(8, 0, 1)
    two, _ = make_growing(8, 0, 2)
    batch = next(iter(batches))
    for _ in range(5):
        one.discriminator_loss(batch)
        two.discriminator_loss({name: value[:4] for name, value in batch.items()})
        assert torch.equal(one.generator.growth, two.generator.growth)


@pytest.mark.parametrize("cut", [3, 6])
def test_a_training_killed_inside_a_fade_goes_on_with_equal_bits(cut, tmp_path):
    def make_trainer() -> Trainer:
        torch.manual_seed(1)
        objective, batches = make_growing(8, 0, 1)
        return Trainer(objective, batches, TrainConfig(steps=12, lr=1e-3, ema_decay=0.9, report_every=1))

    def flatten(trainer: Trainer) -> dict[str, Tensor]:
        tensors: dict[str, Tensor] = {}
        checkpoint.flatten_state(trainer.state_dict(), "", tensors)
        return tensors

    whole, first, second = make_trainer(), make_trainer(), make_trainer()
    list(whole)
    for report in first:
        if report.step == cut:
            break
    assert first.objective.generator.growth.item() % 1 > 0
    assert first.ema_model.growth.item() == first.objective.generator.growth.item()
    checkpoint.save_checkpoint(tmp_path, cut, first.state_dict())
    second.load_state_dict(checkpoint.load_latest(tmp_path, print)[1])
    list(second)
    expected = flatten(whole)
    for name, value in flatten(second).items():
        assert torch.equal(value, expected[name]), name


# --- augmentation and classes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bias", "expected"), [(50.0, 1), (-50.0, 0)])
def test_the_augmentation_follows_the_discriminator(bias, expected):
    """A discriminator that is always sure raises it by the images seen, after every fourth batch; else it stays 0."""
    objective = make_images(augment="ada", r1=0.0)
    objective.gan.discriminator.forward = lambda image, label: image.flatten(1).mean(1) + bias
    for step in range(10):
        objective.discriminator_loss({"image": torch.randn(8, 1, 16, 16)})
        changes = (step + 1) // ADA_INTERVAL
        speed = expected * 8 * ADA_INTERVAL / ADA_IMAGES
        assert objective.augment_probability.item() == pytest.approx(changes * speed)
    assert objective.real_sign_batches.item() == 2 and objective.accuracy.item() == pytest.approx(0.5)


@pytest.mark.parametrize("augment", ["diff", "ada"])
def test_both_players_see_augmented_images_in_every_phase(augment):
    objective = make_images(augment=augment, r1=1.0, r2=1.0, gradient_penalty=1.0, loss="relativistic")
    if augment == "ada":
        objective.augment_probability.fill_(0.8)
    seen = []
    forward = objective.gan.discriminator.forward
    objective.gan.discriminator.forward = lambda image, label: seen.append(image.detach()) or forward(image, label)
    real = torch.full((4, 1, 16, 16), 7.0)
    for phase in objective.phases():
        phase.loss({"image": real}).mean.backward()
    assert len(seen) == 7  # real and generated; the same and between; generated and real
    assert not any(torch.equal(image, real) for image in seen)


def test_a_conditional_generator_learns_what_its_classes_look_like():
    """Two classes of flat images: dark and light."""
    torch.manual_seed(0)
    label = torch.arange(96) % 2
    image = (2 * label.float() - 1)[:, None, None, None] + 0.1 * torch.randn(96, 1, 16, 16)
    model = GanModel(GrowingGenerator(1, 2), GrowingDiscriminator(2), GanTraining(penalty_interval=4))
    batches = InMemoryBatches({"image": image, "label": label}, 32)
    config = TrainConfig(steps=300, lr=5e-3, momentum=0.0, beta2=0.99, schedule="constant")
    list(Trainer(Adversarial(model), batches, config))
    dark, light = (model(torch.randn(50, 8), torch.full((50,), k)).mean().item() for k in range(2))
    assert dark < -0.5 and light > 0.5
