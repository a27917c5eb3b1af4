"""The optimisers of the talk, by name, in their quickest form on the device, and Muon."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .config import TrainConfig


def build_optimizer(module: nn.Module, weights: Iterable[Tensor], config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser named by the config for the given weights of `module`.

    SGD (Robbins and Monro 1951), momentum (Polyak 1964), Nesterov (1983), AdaGrad (Duchi et al. 2011), AdaDelta (Zeiler
    2012), RMSProp (Tieleman and Hinton 2012), Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019), Muon
    (Jordan et al. 2024). Weight decay applies to matrices and filters, not to biases and scales.
    """
    weights = list(weights)
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    lr, momentum, betas = config.lr, config.momentum, (config.momentum, 0.999)
    on_gpu = config.cuda_graph and weights[0].device.type == "cuda"  # counters too, as a recorded update needs them
    match config.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr, fused=True)
        case "momentum":
            return torch.optim.SGD(groups, lr, momentum, fused=True)
        case "nesterov":
            return torch.optim.SGD(groups, lr, momentum, nesterov=True, fused=True)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr, eps=1e-7, fused=all(w.device.type == "cpu" for w in weights))
        case "adadelta":
            return torch.optim.Adadelta(groups, lr, foreach=True)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr, foreach=True)
        case "adam":
            return torch.optim.Adam(groups, lr, betas, fused=True, capturable=on_gpu)
        case "adamw":
            return torch.optim.AdamW(groups, lr, betas, fused=True, capturable=on_gpu)
    return Muon(module, weights, config)


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict:
    """What a checkpoint must know. Rates follow from the step, wherever they lie."""
    found = optimizer.state_dict()
    return {**found, "param_groups": [{**group, "lr": float(group["lr"])} for group in found["param_groups"]]}


def load_optimizer_state(optimizer: torch.optim.Optimizer, saved: dict) -> None:
    """Continues with what `optimizer_state` gave; the rates stay in the memory that they are in."""
    rates = [group["lr"] for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for weight, values in optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                # Fused optimisers walk through memory: their state must lie in it as the weight does.
                values[key] = torch.empty_like(weight).copy_(value)


def newton_schulz(gradient_NM: Tensor, rounds: int = 5) -> Tensor:
    """The matrix with the singular vectors of `gradient_NM` and singular values near one.

    Newton-Schulz iteration with the quintic polynomial of Jordan et al. 2024 (kellerjordan.github.io/posts/muon).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = gradient_NM if gradient_NM.shape[0] <= gradient_NM.shape[1] else gradient_NM.T
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if gradient_NM.shape[0] <= gradient_NM.shape[1] else x.T


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal for filters and hidden matrices; AdamW at a tenth of the rate for all else.

    Filters (O, I, h, w) are taken as matrices (O, I*h*w). The first and last matrix of the module, biases and scales go
    to AdamW, as the authors advise.
    """

    def __init__(self, module: nn.Module, weights: list[Tensor], config: TrainConfig):
        matrices = [w for w in module.parameters() if w.ndim > 1]
        edges = {id(w) for w in (matrices[:1] + matrices[-1:])}
        hidden = [w for w in weights if w.ndim > 1 and id(w) not in edges]
        rest = [w for w in weights if w.ndim <= 1 or id(w) in edges]
        common = {"lr": config.lr, "weight_decay": config.weight_decay, "momentum": config.momentum}
        common |= {"capturable": True}  # so that torch restores counters to the device of the weights
        groups = [{"params": hidden, "muon": True, **common}, {"params": rest, "muon": False, **common}]
        super().__init__([g for g in groups if g["params"]], {})
        self.products = torch.bfloat16 if config.precision == "bfloat16" else torch.float32

    @torch.no_grad()
    def step(self, closure=None) -> None:
        """One update of every weight that has a gradient."""
        for group in self.param_groups:
            for weight in (w for w in group["params"] if w.grad is not None):
                (self._orthogonal_step if group["muon"] else self._adam_step)(weight, group)

    def _orthogonal_step(self, weight: Tensor, group: dict) -> None:
        state = self.state[weight]
        if not state:
            state["velocity"] = torch.zeros_like(weight)
        velocity = state["velocity"].lerp_(weight.grad, 1 - group["momentum"])
        update = weight.grad.lerp(velocity, group["momentum"])  # Nesterov
        matrix = update.flatten(1).to(self.products)  # bfloat16 is enough, as the authors found
        scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.sub_(newton_schulz(matrix).to(weight.dtype).view_as(weight) * (group["lr"] * scale))

    def _adam_step(self, weight: Tensor, group: dict) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), device=weight.device)
            state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        mean = state["mean"].lerp_(weight.grad, 0.1)
        square = state["square"].lerp_(weight.grad.square(), 0.05)
        denominator = (square / (1 - 0.95 ** state["step"])).sqrt_().add_(1e-8)
        decay = group["weight_decay"] if weight.ndim > 1 else 0.0
        rate = 0.1 * group["lr"]
        weight.mul_(1 - rate * decay).sub_(rate * mean / (1 - 0.9 ** state["step"]) / denominator)
