"""Windows that slide, written out, against PyTorch, SciPy, and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import correlate2d

from thalweg.concepts.conv_numpy import (
    ConvSpec,
    avg_pool,
    conv_transpose,
    convolve,
    max_pool,
    most_textured_crop,
    output_size,
    receptive_fields,
    subsample,
)

SIDE = st.integers(1, 5)


@st.composite
def slides(draw):
    """A picture (C, H, W), a kernel (h, w), groups that divide C, stride, padding and dilation."""
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    groups = draw(st.integers(1, 3))
    channels = groups * draw(st.integers(1, 2))
    x_CHW = random.normal(size=(channels, draw(st.integers(1, 12)), draw(st.integers(1, 12))))
    kernel = random.normal(size=(draw(SIDE), draw(SIDE)))
    return x_CHW, kernel, draw(st.integers(1, 4)), draw(st.integers(0, 3)), draw(st.integers(1, 3)), groups


@given(slides())
def test_the_convolution_is_that_of_pytorch_and_has_the_size_of_the_formula(slide):
    x_CHW, kernel, stride, padding, dilation, groups = slide
    size = [output_size(n, k, stride, padding, dilation) for n, k in zip(x_CHW.shape[1:], kernel.shape, strict=True)]
    weight = torch.from_numpy(kernel).expand(groups, len(x_CHW) // groups, -1, -1)
    if min(size) < 1:
        with pytest.raises(RuntimeError):
            F.conv2d(torch.from_numpy(x_CHW)[None], weight, None, stride, padding, dilation, groups)
        return
    found = convolve(x_CHW, kernel, stride, padding, dilation, groups)
    theirs = F.conv2d(torch.from_numpy(x_CHW)[None], weight, None, stride, padding, dilation, groups)[0]
    assert found.shape == (groups, *size)
    np.testing.assert_allclose(found, theirs.numpy(), atol=1e-10)


@given(slides())
def test_the_transposed_convolution_is_that_of_pytorch_and_has_the_size_of_the_formula(slide):
    x_CHW, kernel, stride, padding, dilation, groups = slide
    size = [
        output_size(n, k, stride, padding, dilation, transposed=True)
        for n, k in zip(x_CHW.shape[1:], kernel.shape, strict=True)
    ]
    if min(size) < 1:
        return
    weight = torch.from_numpy(kernel).expand(len(x_CHW), 1, -1, -1)
    theirs = F.conv_transpose2d(torch.from_numpy(x_CHW)[None], weight, None, stride, padding, 0, groups, dilation)[0]
    found = conv_transpose(x_CHW, kernel, stride, padding, dilation, groups)
    assert found.shape == (groups, *size)
    np.testing.assert_allclose(found, theirs.numpy(), atol=1e-10)


@given(slides())
def test_the_transposed_convolution_carries_the_gradient_of_the_convolution_back(slide):
    x_CHW, kernel, stride, padding, dilation, _ = slide
    x_1HW = x_CHW[:1]
    if (
        min(output_size(n, k, stride, padding, dilation) for n, k in zip(x_1HW.shape[1:], kernel.shape, strict=True))
        < 1
    ):
        return
    y = convolve(x_1HW, kernel, stride, padding, dilation)
    high, wide = x_1HW.shape[1:]
    # only what lies around the picture is cut off here: rows and columns that no window reached are missing at the end
    back = conv_transpose(y, kernel, stride, 0, dilation)[:, padding : padding + high, padding : padding + wide]
    leaf = torch.from_numpy(x_1HW)[None].requires_grad_()
    made = F.conv2d(leaf, torch.from_numpy(kernel)[None, None], None, stride, padding, dilation)
    made.backward(torch.from_numpy(y)[None])
    gradient = leaf.grad[0].numpy()
    np.testing.assert_allclose(gradient[:, : back.shape[1], : back.shape[2]], back, atol=1e-10)
    assert not gradient[:, back.shape[1] :].any() and not gradient[:, :, back.shape[2] :].any()


@given(st.integers(0, 1000), st.integers(3, 12), st.integers(3, 12), st.sampled_from([1, 2, 3]))
def test_it_is_a_cross_correlation_and_of_symmetric_kernels_also_a_convolution(seed, high, wide, half):
    random = np.random.default_rng(seed)
    x_HW, kernel = random.normal(size=(high, wide)), random.normal(size=(half, 3))
    np.testing.assert_allclose(convolve(x_HW[None], kernel)[0], correlate2d(x_HW, kernel, mode="valid"), atol=1e-12)
    symmetric = kernel + kernel[::-1, ::-1]
    turned = convolve(x_HW[None], symmetric[::-1, ::-1])
    np.testing.assert_allclose(convolve(x_HW[None], symmetric), turned, atol=1e-12)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_the_field_of_a_stack_is_where_its_gradient_arrives(window, stride, dilation, layers):
    field = receptive_fields(window, stride, dilation, layers)
    assert len(field) == layers
    x = torch.zeros(1, 1, 1, field[-1] + 5, dtype=torch.float64, requires_grad=True)
    y, ones = x, torch.ones(1, 1, 1, window, dtype=torch.float64)
    for _ in range(layers):
        y = F.conv2d(y, ones, stride=stride, dilation=(1, dilation))[..., : y.shape[-1]]
    y[0, 0, 0, 0].backward()
    reached = x.grad.flatten().nonzero().flatten()
    assert int(reached[-1] - reached[0]) + 1 == field[-1]


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_one_value_spreads_as_far_through_as_many_transposed_layers(window, stride, dilation, layers):
    y, ones = np.ones((1, 1, 1)), np.ones((window, window))
    for _ in range(layers):
        y = conv_transpose(y, ones, stride, 0, dilation)
    assert y.shape == (1, *[receptive_fields(window, stride, dilation, layers)[-1]] * 2)


# --- pooling ----------------------------------------------------------------------------------------------------------


@st.composite
def pools(draw):
    """A picture of few different values, so that there are equals, and a window with stride and padding that fit."""
    window, stride = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    padding = draw(st.integers(0, window // 2))
    sizes = [draw(st.integers(max(1, window - 2 * padding), 12)) for _ in range(2)]
    levels = draw(st.sampled_from([3, 256]))
    values = np.random.default_rng(draw(st.integers(0, 2**16))).integers(-levels, levels, sizes)
    return values.astype(np.float64), window, stride, padding


@given(pools())
def test_pooling_is_that_of_pytorch_and_so_are_the_places_of_what_is_kept(pool):
    x_HW, *how = pool
    x_11HW = torch.from_numpy(x_HW)[None, None]
    values, places = F.max_pool2d(x_11HW, *how, return_indices=True)
    found, where = max_pool(x_HW, *how)
    np.testing.assert_array_equal(found, values[0, 0].numpy())
    np.testing.assert_array_equal(where[..., 0] * x_HW.shape[1] + where[..., 1], places[0, 0].numpy())
    np.testing.assert_allclose(avg_pool(x_HW, *how), F.avg_pool2d(x_11HW, *how)[0, 0].numpy(), atol=1e-10)
    assert subsample(x_HW, *how).shape == found.shape


@given(pools())
def test_average_pooling_is_a_convolution_with_equal_weights(pool):
    x_HW, window, stride, padding = pool
    equal = np.full((window, window), 1 / window**2)
    by_kernel = convolve(x_HW[None], equal, stride, padding)[0]
    np.testing.assert_allclose(avg_pool(x_HW, window, stride, padding), by_kernel, atol=1e-10)


def test_subsampling_takes_the_first_of_each_window():
    x_HW = np.arange(42.0).reshape(6, 7)
    np.testing.assert_array_equal(subsample(x_HW, 2, 2), x_HW[:6:2, :6:2])
    np.testing.assert_array_equal(subsample(x_HW, 3, 2), x_HW[:4:2, :5:2])


def test_the_two_kernels_of_a_slide_give_the_length_of_both_answers():
    x = np.random.default_rng(0).normal(size=(1, 5, 5))
    a, b = np.eye(3), np.ones((3, 3))
    found = ConvSpec().output(x, [a, b])
    np.testing.assert_allclose(found, np.sqrt(convolve(x, a) ** 2 + convolve(x, b) ** 2))


def test_the_busiest_part_is_where_values_differ_most():
    x_HW = np.zeros((20, 30))
    x_HW[12:14, 21:23] = 9
    top, left = most_textured_crop(x_HW, 4, 4)
    assert top <= 12 <= top + 2 and left <= 21 <= left + 2
