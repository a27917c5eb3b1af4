"""How much a text surprises a model: minus the logarithm of the probability of each character, in nats.

N characters, T of them at a time, R rows, V tokens. A model is `logits_RTV, state = model(tokens_RT, state)`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: characters per call of a model; the state is carried on, so that the figures do not depend on it
CHUNK = 1024
#: where a text is read in rows, each row first reads so many characters of the row before
WARMUP = 256


@contextmanager
def use_single_thread() -> Iterator[None]:
    """Compute in one CPU thread: for products of a matrix with one vector, threads wait longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def measure_surprise(
    model: nn.Module, tokens_N: Tensor, start_token: int, rows: int = 1, chunk: int = CHUNK
) -> np.ndarray:
    """Compute the surprise of every token given all before it, with carried state.

    Args:
        model: A model in evaluation mode.
        tokens_N: The text, on the model's device.
        start_token: Token that the model reads before the first one.
        rows: 1 reads the text in one pass. More are faster: the text is cut into rows that are read at the same time,
            each after the last 256 tokens of the row before it; older ones are not seen, which changes little.
        chunk: Tokens per call of the model.

    Returns:
        Nats (N,) float32: -ln p(token | tokens before it).
    """
    count = len(tokens_N)
    if not count:
        return np.zeros(0, np.float32)
    warmup = WARMUP if rows > 1 else 0
    row_length = -(-count // rows)
    before = tokens_N.new_full((warmup + 1,), start_token)
    after = tokens_N.new_full((rows * row_length - count,), start_token)
    text_RT = torch.cat([before, tokens_N, after]).unfold(0, warmup + row_length + 1, row_length)
    length = max(1, chunk // rows)
    nats = []
    state = None
    for start in range(0, warmup + row_length, length):
        piece_RT = text_RT[:, start : start + length + 1]
        nats_RT, state = _read_piece(model, piece_RT, state)
        nats.append(nats_RT.cpu())
    return torch.cat(nats, 1)[:, warmup:].flatten()[:count].numpy()


def _read_piece(model: nn.Module, piece_RT: Tensor, state: object) -> tuple[Tensor, object]:
    """Return the surprise of all tokens of a piece but its first, and the state after it."""
    if len(piece_RT) == 1 and not piece_RT.is_cuda:
        with use_single_thread():
            logits_RTV, state = model(piece_RT[:, :-1], state)
    else:
        logits_RTV, state = model(piece_RT[:, :-1], state)
    targets_RT = piece_RT[:, 1:].long()
    return F.cross_entropy(logits_RTV.float().movedim(-1, 1), targets_RT, reduction="none"), state


@torch.inference_mode()
def measure_surprise_without_context(
    model: nn.Module, tokens_N: Tensor, window: int = 256, batch_size: int = 64
) -> float:
    """Compute the mean surprise where every window of the text begins with an empty state.

    This is how Transformers of a fixed context are often scored: nanoGPT's `estimate_loss`, but over all windows that
    do not overlap, not over random ones. It is higher than the surprise with carried state.

    Args:
        model: A model in evaluation mode.
        tokens_N: The text, on the model's device.
        window: Predicted tokens per window.
        batch_size: Windows per call of the model.

    Returns:
        Nats per token; NaN for a text that is shorter than a window.
    """
    count = (len(tokens_N) - 1) // window
    if count < 1:
        return float("nan")
    inputs_RT = tokens_N[: count * window].reshape(count, window)
    targets_RT = tokens_N[1 : count * window + 1].reshape(count, window).long()
    total = 0.0
    for start in range(0, count, batch_size):
        logits_RTV, _ = model(inputs_RT[start : start + batch_size])
        targets = targets_RT[start : start + batch_size].flatten()
        total += float(F.cross_entropy(logits_RTV.flatten(0, 1).float(), targets, reduction="sum"))
    return total / targets_RT.numel()


def measure_dynamic_surprise(
    model: nn.Module, tokens_N: Tensor, start_token: int, lr: float, segment: int = 64
) -> float:
    """Compute the mean surprise of a model that learns from what it has read (Krause et al. 2018, arXiv:1709.07432).

    After each segment a copy of the model takes one step of plain gradient descent on it, with the norm of the gradient
    clipped to 1. Every token is predicted before it is learned from.

    Args:
        model: A model in evaluation mode; it stays as it is.
        tokens_N: The text, on the model's device.
        start_token: Token that the model reads before the first one.
        lr: Learning rate of the steps.
        segment: Tokens per step.

    Returns:
        Nats per token.
    """
    learner = copy.deepcopy(model).requires_grad_(True)
    for module in learner.modules():
        if isinstance(module, nn.RNNBase):  # cuDNN computes no gradients in evaluation mode
            module.train()
    optimizer = torch.optim.SGD(learner.parameters(), lr)
    text_1N = torch.cat([tokens_N.new_full((1,), start_token), tokens_N])[None]
    state: object = None
    total = 0.0
    for start in range(0, len(tokens_N), segment):
        piece_1T = text_1N[:, start : start + segment + 1]
        logits_1TV, state = learner(piece_1T[:, :-1], state)
        loss = F.cross_entropy(logits_1TV[0].float(), piece_1T[0, 1:].long())
        total += float(loss.detach()) * (piece_1T.shape[1] - 1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        state = _detach(state)
    return total / len(tokens_N)


def _detach(state: object) -> object:
    if isinstance(state, tuple):
        return tuple(map(torch.Tensor.detach, state))
    return state.detach() if isinstance(state, Tensor) else state
