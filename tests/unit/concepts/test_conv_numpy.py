"""Convolution and pooling in NumPy against PyTorch, SciPy, and gradients."""

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
    find_textured_crop,
    max_pool,
    output_size,
    receptive_fields,
    subsample,
)

KERNEL_SIDE = st.integers(1, 5)


@st.composite
def conv_cases(draw):
    """Draw an image (C, H, W), a kernel (h, w), stride, padding, dilation, and groups that divide C."""
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    groups = draw(st.integers(1, 3))
    channels = groups * draw(st.integers(1, 2))
    x_CHW = random.normal(size=(channels, draw(st.integers(1, 12)), draw(st.integers(1, 12))))
    kernel = random.normal(size=(draw(KERNEL_SIDE), draw(KERNEL_SIDE)))
    return x_CHW, kernel, draw(st.integers(1, 4)), draw(st.integers(0, 3)), draw(st.integers(1, 3)), groups


def output_shape(x_CHW, kernel, *spec, **kwargs):
    """Return the output size (height, width) of the formula."""
    return [output_size(n, k, *spec, **kwargs) for n, k in zip(x_CHW.shape[1:], kernel.shape, strict=True)]


@given(conv_cases())
def test_convolution_matches_pytorch_and_the_size_formula(case):
    x_CHW, kernel, stride, padding, dilation, groups = case
    shape = output_shape(x_CHW, kernel, stride, padding, dilation)
    weight = torch.from_numpy(kernel).expand(groups, len(x_CHW) // groups, -1, -1)
    x_1CHW = torch.from_numpy(x_CHW)[None]
    if min(shape) < 1:
        with pytest.raises(RuntimeError):
            F.conv2d(x_1CHW, weight, None, stride, padding, dilation, groups)
        return
    output = convolve(x_CHW, kernel, stride, padding, dilation, groups)
    expected = F.conv2d(x_1CHW, weight, None, stride, padding, dilation, groups)[0]
    assert output.shape == (groups, *shape)
    np.testing.assert_allclose(output, expected.numpy(), atol=1e-10)


@given(conv_cases())
def test_transposed_convolution_matches_pytorch_and_the_size_formula(case):
    x_CHW, kernel, stride, padding, dilation, groups = case
    shape = output_shape(x_CHW, kernel, stride, padding, dilation, transposed=True)
    if min(shape) < 1:
        return
    weight = torch.from_numpy(kernel).expand(len(x_CHW), 1, -1, -1)
    x_1CHW = torch.from_numpy(x_CHW)[None]
    expected = F.conv_transpose2d(x_1CHW, weight, None, stride, padding, 0, groups, dilation)[0]
    output = conv_transpose(x_CHW, kernel, stride, padding, dilation, groups)
    assert output.shape == (groups, *shape)
    np.testing.assert_allclose(output, expected.numpy(), atol=1e-10)


@given(conv_cases())
def test_transposed_convolution_is_the_gradient_of_convolution(case):
    x_CHW, kernel, stride, padding, dilation, _ = case
    x_1HW = x_CHW[:1]
    if min(output_shape(x_1HW, kernel, stride, padding, dilation)) < 1:
        return
    y = convolve(x_1HW, kernel, stride, padding, dilation)
    height, width = x_1HW.shape[1:]
    # cut off only the padding: rows and columns that no window reached are missing at the end
    full = conv_transpose(y, kernel, stride, 0, dilation)
    backward = full[:, padding : padding + height, padding : padding + width]
    leaf = torch.from_numpy(x_1HW)[None].requires_grad_()
    output = F.conv2d(leaf, torch.from_numpy(kernel)[None, None], None, stride, padding, dilation)
    output.backward(torch.from_numpy(y)[None])
    gradient = leaf.grad[0].numpy()
    np.testing.assert_allclose(gradient[:, : backward.shape[1], : backward.shape[2]], backward, atol=1e-10)
    assert not gradient[:, backward.shape[1] :].any()
    assert not gradient[:, :, backward.shape[2] :].any()


@given(st.integers(0, 1000), st.integers(3, 12), st.integers(3, 12), st.sampled_from([1, 2, 3]))
def test_kernels_are_not_flipped(seed, height, width, rows):
    random = np.random.default_rng(seed)
    x_HW = random.normal(size=(height, width))
    kernel = random.normal(size=(rows, 3))
    np.testing.assert_allclose(convolve(x_HW[None], kernel)[0], correlate2d(x_HW, kernel, mode="valid"), atol=1e-12)
    symmetric = kernel + kernel[::-1, ::-1]
    flipped = convolve(x_HW[None], symmetric[::-1, ::-1])
    np.testing.assert_allclose(convolve(x_HW[None], symmetric), flipped, atol=1e-12)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_receptive_field_is_the_support_of_the_gradient(kernel_size, stride, dilation, layers):
    fields = receptive_fields(kernel_size, stride, dilation, layers)
    assert len(fields) == layers
    x = torch.zeros(1, 1, 1, fields[-1] + 5, dtype=torch.float64, requires_grad=True)
    ones = torch.ones(1, 1, 1, kernel_size, dtype=torch.float64)
    y = x
    for _ in range(layers):
        y = F.conv2d(y, ones, stride=stride, dilation=(1, dilation))[..., : y.shape[-1]]
    y[0, 0, 0, 0].backward()
    support = x.grad.flatten().nonzero().flatten()
    assert int(support[-1] - support[0]) + 1 == fields[-1]


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_one_value_spreads_over_the_receptive_field_of_transposed_layers(kernel_size, stride, dilation, layers):
    y = np.ones((1, 1, 1))
    for _ in range(layers):
        y = conv_transpose(y, np.ones((kernel_size, kernel_size)), stride, 0, dilation)
    assert y.shape == (1, *[receptive_fields(kernel_size, stride, dilation, layers)[-1]] * 2)


def test_two_kernels_give_the_magnitude_of_both_outputs():
    x = np.random.default_rng(0).normal(size=(1, 5, 5))
    a = np.eye(3)
    b = np.ones((3, 3))
    np.testing.assert_allclose(ConvSpec().apply(x, [a, b]), np.sqrt(convolve(x, a) ** 2 + convolve(x, b) ** 2))


# --- pooling ----------------------------------------------------------------------------------------------------------


@st.composite
def pool_cases(draw):
    """Draw an image with few distinct values, so that there are ties, and window, stride and padding that fit."""
    window = draw(st.integers(1, 5))
    stride = draw(st.integers(1, 5))
    padding = draw(st.integers(0, window // 2))
    sizes = [draw(st.integers(max(1, window - 2 * padding), 12)) for _ in range(2)]
    levels = draw(st.sampled_from([3, 256]))
    values = np.random.default_rng(draw(st.integers(0, 2**16))).integers(-levels, levels, sizes)
    return values.astype(np.float64), window, stride, padding


@given(pool_cases())
def test_pooling_and_its_argmax_match_pytorch(case):
    x_HW, *spec = case
    x_11HW = torch.from_numpy(x_HW)[None, None]
    expected, indices = F.max_pool2d(x_11HW, *spec, return_indices=True)
    max_OP, argmax_OP2 = max_pool(x_HW, *spec)
    np.testing.assert_array_equal(max_OP, expected[0, 0].numpy())
    np.testing.assert_array_equal(argmax_OP2[..., 0] * x_HW.shape[1] + argmax_OP2[..., 1], indices[0, 0].numpy())
    np.testing.assert_allclose(avg_pool(x_HW, *spec), F.avg_pool2d(x_11HW, *spec)[0, 0].numpy(), atol=1e-10)
    assert subsample(x_HW, *spec).shape == max_OP.shape


@given(pool_cases())
def test_average_pooling_is_a_convolution_with_equal_weights(case):
    x_HW, window, stride, padding = case
    kernel = np.full((window, window), 1 / window**2)
    expected = convolve(x_HW[None], kernel, stride, padding)[0]
    np.testing.assert_allclose(avg_pool(x_HW, window, stride, padding), expected, atol=1e-10)


def test_subsampling_takes_the_first_pixel_of_each_window():
    x_HW = np.arange(42.0).reshape(6, 7)
    np.testing.assert_array_equal(subsample(x_HW, 2, 2), x_HW[:6:2, :6:2])
    np.testing.assert_array_equal(subsample(x_HW, 3, 2), x_HW[:4:2, :5:2])


def test_the_most_textured_crop_contains_the_contrast():
    x_HW = np.zeros((20, 30))
    x_HW[12:14, 21:23] = 9
    top, left = find_textured_crop(x_HW, 4, 4)
    assert top <= 12 <= top + 2 and left <= 21 <= left + 2
