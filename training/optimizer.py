"""The optimiser of both stages: Muon for matrices, Adam for everything else."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn


def orthogonal(x: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: five steps of a quintic Newton-Schulz iteration.

    Sixteen bits are enough, because the iteration pulls every singular value towards one again.
    """
    x = (x / (x.norm() + 1e-7)).bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if tall else x).float()


class Optimizer:
    """Muon for the matrices of the layers, Adam for embeddings, norms, convolutions and gates."""

    def __init__(
        self,
        net: nn.Module,
        pool: ThreadPoolExecutor,
        matrix_rate: float,
        other_rate: float,
        decay: float,
        share_of: Callable[[str], float] = lambda name: 1.0,
    ) -> None:
        self.pool = pool
        named = list(net.named_parameters())
        chosen = {
            n
            for n, p in named
            if p.dim() >= 2 and min(p.flatten(1).shape) >= 16 and "embed" not in n and "reader" not in n
        }
        self.matrices = [p for n, p in named if n in chosen]
        self.shares = [share_of(n) for n, _ in named if n in chosen]  # of the rates, for some weights
        self.momenta = [torch.zeros_like(p) for p in self.matrices]
        others = [{"params": [p], "share": share_of(n)} for n, p in named if n not in chosen]
        self.adam = torch.optim.AdamW(others, lr=other_rate, betas=(0.9, 0.98), weight_decay=0.0)
        self.matrix_rate, self.other_rate, self.decay = matrix_rate, other_rate, decay

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Apply the gradients with both rates multiplied by ``scale``."""
        rates = [self.matrix_rate * scale * share for share in self.shares]
        list(self.pool.map(self._step_matrix, self.matrices, self.momenta, rates))
        for group in self.adam.param_groups:
            group["lr"] = self.other_rate * scale * group["share"]
        self.adam.step()
        self.adam.zero_grad()

    @torch.no_grad()
    def _step_matrix(self, weight: Tensor, momentum: Tensor, rate: float) -> None:
        if weight.grad is None:  # this step had nothing for it, for example no picture
            return
        momentum.lerp_(weight.grad, 0.05)
        update = orthogonal(weight.grad.lerp(momentum, 0.95).flatten(1)).view_as(weight)
        weight.mul_(1 - rate * self.decay)
        weight.add_(update, alpha=-rate * max(1.0, len(weight) / weight[0].numel()) ** 0.5)
        weight.grad = None

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs."""
        return {"momenta": self.momenta, "adam": self.adam.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of ``state``."""
        self.momenta = state["momenta"]
        self.adam.load_state_dict(state["adam"])


def rate_at(step: int, steps: int, warmup: int, cooldown: float) -> float:
    """Share of the full rate at ``step``."""
    falling = max(1, int(steps * cooldown))
    return min(1.0, (step + 1) / warmup, (steps - step) / falling)
