"""Axes on a linear generator, whose true axes are known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from thalweg.errors import OptionError
from thalweg.models.edit.fit_axes import (
    factorized_directions,
    fit_axes,
    orthogonalize,
    principal_directions,
    style_weights,
)
from thalweg.models.edit.linear_axes import LinearAxes, linear_axes
from thalweg.models.edit.local_axes import LocalAxes, local_axes
from thalweg.models.generate.base import Generator
from thalweg.models.generate.stylegan import stylegan

#: rows: attributes that the two read-outs share, so that moving one moves the other
READOUT = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0], [0.8, 0.6, 0.0, 0.0, 0.0]])


class LinearGenerator(Generator):
    """Styles -> images of 2x2 pixels by one matrix; the style is the latent, or twice the latent."""

    def __init__(self, factor: float = 1.0):
        super().__init__(latent_dim=5, style_dim=5)
        self.factor = factor
        self.layer = nn.Linear(5, 4)

    def map_latent(self, latent_BL: Tensor, label_B: Tensor | None = None) -> Tensor:
        return self.factor * latent_BL

    def synthesize(self, style_BNW: Tensor) -> Tensor:
        return self.layer(style_BNW[:, 0]).reshape(-1, 1, 2, 2)


@pytest.fixture
def style_NW() -> Tensor:
    return torch.randn(2000, 5, generator=torch.Generator().manual_seed(0))


def test_regression_recovers_the_axes_and_orthogonalization_separates_them(style_NW):
    noise = 0.1 * torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
    axes = fit_axes(style_NW, style_NW @ READOUT.T + noise)
    assert F.cosine_similarity(axes.readout_AW, READOUT).min() > 0.99
    moved_KA = axes.direction_KW @ axes.readout_AW.T
    torch.testing.assert_close(moved_KA, torch.eye(2), atol=1e-4, rtol=0)
    raw_KA = axes.raw_KW @ axes.readout_AW.T
    assert raw_KA.diagonal().sub(1).abs().max() < 1e-4 and raw_KA[0, 1] > 0.7


def test_orthogonal_directions_are_the_pseudo_inverse_where_styles_are_spread_evenly():
    direction_AW, _ = orthogonalize(READOUT, torch.eye(5))
    torch.testing.assert_close(direction_AW.T, torch.linalg.pinv(READOUT))


def test_principal_directions_are_one_deviation_of_the_longest_axes(style_NW):
    scaled_NW = style_NW * torch.tensor([3.0, 1.0, 0.5, 0.1, 2.0])
    direction_KW = principal_directions(scaled_NW, 2).abs()
    expected = torch.tensor([[3.0, 0, 0, 0, 0], [0, 0, 0, 0, 2.0]])
    torch.testing.assert_close(direction_KW, expected, atol=0.2, rtol=0)


def test_factorized_directions_are_the_singular_vectors_of_the_layer_that_reads_the_style(style_NW):
    generator = LinearGenerator()
    (weight_WF,) = style_weights(generator, style_NW[:3])
    torch.testing.assert_close(weight_WF.T, generator.layer.weight.detach())
    direction_KW = factorized_directions(generator, style_NW, 2)
    singular_KW = torch.linalg.svd(generator.layer.weight.detach())[2][:2]
    assert F.cosine_similarity(direction_KW, singular_KW).abs().min() > 0.999


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_no_change_returns_the_same_bits_and_only_latents_keep_their_norm(factor, style_NW):
    model = LinearAxes(LinearGenerator(factor), 2, 2)
    model.set_axes(fit_axes(style_NW, style_NW @ READOUT.T))
    assert torch.equal(model.edit_style(style_NW, torch.zeros(2000, 2)), style_NW)
    assert torch.equal(model(style_NW, torch.zeros(2000, 2)), model.synthesize(style_NW))
    edited_NW = model.edit_style(style_NW, torch.tensor([1.0, 0.0]).expand(2000, 2))
    if factor == 1.0:
        torch.testing.assert_close(edited_NW.norm(dim=1), style_NW.norm(dim=1))
    else:
        torch.testing.assert_close(edited_NW, style_NW + model.orthogonal_KW[0])


def test_local_axes_begin_as_the_linear_ones(style_NW):
    axes = fit_axes(style_NW, style_NW @ READOUT.T)
    models = [LinearAxes(LinearGenerator(), 2, 2), LocalAxes(LinearGenerator(), 2, 2, 8)]
    for model in models:
        model.set_axes(axes)
    change = torch.tensor([[2.0, -1.0]]).expand(2000, 2)
    torch.testing.assert_close(*(model.edit_style(style_NW, change) for model in models))


def test_the_generator_is_frozen_in_every_mode():
    kwargs = {"in_channels": 1, "image_size": 8, "latent_dim": 3, "width": 2}
    model = linear_axes("dcgan", kwargs, 1, 1).train()
    assert not model.generator.training and {
        name for name, param in model.named_parameters() if param.requires_grad
    } == {
        "direction_KW",
        "length_K",
    }


def test_arguments_that_are_not_possible_are_refused():
    kwargs = {"in_channels": 1, "image_size": 8}
    with pytest.raises(OptionError) as error:
        linear_axes("dcgan", kwargs, 0, 1)
    assert (error.value.option, error.value.value) == ("num_axes", 0)
    with pytest.raises(OptionError) as error:
        local_axes("dcgan", kwargs, 1, 1, has_fixed_directions=True)
    assert error.value.option == "axes"


def test_the_mean_style_of_a_generator_stays_when_axes_are_built():
    network = stylegan(1, image_size=8, latent_dim=4, width=4, mapping_depth=1).get_submodule("network")
    assert isinstance(network, Generator)
    LinearAxes(network, num_axes=1, num_attributes=1)
    assert not network.mean_style.any()
