"""Build the optimizers by name, in the fastest implementation for the device, and Muon."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from .config import TrainConfig

ParamGroup = dict[str, Any]


def build_optimizer(module: nn.Module, params: Iterable[Tensor], config: TrainConfig) -> torch.optim.Optimizer:
    """Build the optimizer of `config` for `params`, parameters of `module`.

    SGD (Robbins and Monro 1951), momentum (Polyak 1964), Nesterov (1983), AdaGrad (Duchi et al. 2011), AdaDelta (Zeiler
    2012), RMSProp (Tieleman and Hinton 2012), Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019), Muon
    (Jordan et al. 2024). Weight decay applies to matrices and filters, not to biases and scales.

    Args:
        module: The module that is trained; Muon needs the order of its matrices.
        params: The trainable parameters.
        config: Names the optimizer and its settings.

    Returns:
        The optimizer, at the highest learning rate.
    """
    params = list(params)
    if config.optimizer == "muon":
        return Muon(module, params, config)
    groups = _split_decay_groups(params, config.weight_decay)
    if config.optimizer in ("adam", "adamw"):
        return _build_adam(groups, config)
    lr = config.lr
    momentum = config.momentum
    match config.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr, fused=True)
        case "momentum":
            return torch.optim.SGD(groups, lr, momentum, fused=True)
        case "nesterov":
            return torch.optim.SGD(groups, lr, momentum, nesterov=True, fused=True)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr, eps=1e-7, fused=all(p.device.type == "cpu" for p in params))
        case "adadelta":
            return torch.optim.Adadelta(groups, lr, foreach=True)
        case "rmsprop":
            return torch.optim.RMSprop(groups, lr, foreach=True)
    raise ValueError(f"unknown optimizer: '{config.optimizer}'")


def _split_decay_groups(params: list[Tensor], weight_decay: float) -> list[ParamGroup]:
    matrices: ParamGroup = {"params": [], "weight_decay": weight_decay}
    vectors: ParamGroup = {"params": [], "weight_decay": 0.0}
    for param in params:
        if param.ndim > 1:
            matrices["params"].append(param)
        else:
            vectors["params"].append(param)
    return _drop_empty_groups([matrices, vectors])


def _drop_empty_groups(groups: list[ParamGroup]) -> list[ParamGroup]:
    filled = []
    for group in groups:
        if group["params"]:
            filled.append(group)
    return filled


def _build_adam(groups: list[ParamGroup], config: TrainConfig) -> torch.optim.Optimizer:
    # A CUDA graph needs the step counters on the device too.
    capturable = config.cuda_graph and groups[0]["params"][0].device.type == "cuda"
    betas = (float(config.momentum), float(config.beta2))  # torch refuses to mix an integer with a tensor
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, config.lr, betas, fused=True, capturable=capturable)
    return torch.optim.AdamW(groups, config.lr, betas, fused=True, capturable=capturable)


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state for a checkpoint. Learning rates become floats, because they follow from the step."""
    state = optimizer.state_dict()
    groups = []
    for group in state["param_groups"]:
        groups.append({**group, "lr": float(group["lr"])})
    return {**state, "param_groups": groups}


def load_optimizer_state(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Restore what `optimizer_state` returned; learning-rate tensors stay in place for CUDA graphs."""
    lrs = [group["lr"] for group in optimizer.param_groups]
    optimizer.load_state_dict(saved)
    for group, lr in zip(optimizer.param_groups, lrs, strict=True):
        group["lr"] = lr
    for param, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == param.shape:
                # Fused optimizers walk through memory: their state needs the memory format of the parameter.
                state[key] = torch.empty_like(param).copy_(value)


def newton_schulz(gradient_NM: Tensor, iterations: int = 5) -> Tensor:
    """Return a matrix with the singular vectors of `gradient_NM` and singular values near one.

    Newton-Schulz iteration with the quintic polynomial of Jordan et al. 2024 (kellerjordan.github.io/posts/muon).
    """
    a = 3.4445
    b = -4.7750
    c = 2.0315
    is_tall = gradient_NM.shape[0] > gradient_NM.shape[1]
    x = gradient_NM.T if is_tall else gradient_NM
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if is_tall else x


class Muon(torch.optim.Optimizer):
    """Orthogonalized momentum for hidden matrices and filters; AdamW at a tenth of the learning rate for the rest.

    Filters (O, I, h, w) are taken as matrices (O, I*h*w). The first and last matrix of the module, biases and scales go
    to AdamW, as the authors advise.
    """

    def __init__(self, module: nn.Module, params: list[Tensor], config: TrainConfig):
        matrices = [param for param in module.parameters() if param.ndim > 1]
        edges = set(map(id, matrices[:1] + matrices[-1:]))
        hidden: list[Tensor] = []
        others: list[Tensor] = []
        for param in params:
            if param.ndim > 1 and id(param) not in edges:
                hidden.append(param)
            else:
                others.append(param)
        common = {
            "lr": config.lr,
            "weight_decay": config.weight_decay,
            "momentum": config.momentum,
            "capturable": True,  # torch then restores the counters to the device of the parameters
        }
        groups = [{"params": hidden, "muon": True, **common}, {"params": others, "muon": False, **common}]
        super().__init__(_drop_empty_groups(groups), {})
        self.matmul_dtype = torch.float32
        if config.precision == "bfloat16":  # accurate enough, as the authors found
            self.matmul_dtype = torch.bfloat16

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            update = self._adam_step
            if group["muon"]:
                update = self._muon_step
            for param in group["params"]:
                if param.grad is not None:
                    update(param, group)

    def _muon_step(self, param: Tensor, group: ParamGroup) -> None:
        assert param.grad is not None
        state = self.state[param]
        if not state:
            state["velocity"] = torch.zeros_like(param)
        velocity = state["velocity"].lerp_(param.grad, 1 - group["momentum"])
        update = param.grad.lerp(velocity, group["momentum"])  # Nesterov
        matrix = update.flatten(1).to(self.matmul_dtype)
        scale = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
        param.mul_(1 - group["lr"] * group["weight_decay"])
        param.sub_(newton_schulz(matrix).to(param.dtype).view_as(param) * (group["lr"] * scale))

    def _adam_step(self, param: Tensor, group: ParamGroup) -> None:
        assert param.grad is not None
        state = self.state[param]
        if not state:
            state["step"] = torch.zeros((), device=param.device)
            state["mean"] = torch.zeros_like(param)
            state["square"] = torch.zeros_like(param)
        state["step"] += 1
        mean = state["mean"].lerp_(param.grad, 0.1)
        square = state["square"].lerp_(param.grad.square(), 0.05)
        denominator = (square / (1 - 0.95 ** state["step"])).sqrt_().add_(1e-8)
        weight_decay = 0.0
        if param.ndim > 1:
            weight_decay = group["weight_decay"]
        lr = 0.1 * group["lr"]
        param.mul_(1 - lr * weight_decay).sub_(lr * mean / (1 - 0.9 ** state["step"]) / denominator)
