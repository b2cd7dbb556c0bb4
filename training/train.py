"""Train the demonstration model on a CPU.

Samples are generated as they are needed and packed into rows of fixed length; everything is a function of the seed and
the step, so a run that is stopped and resumed ends where an unbroken one does (up to the rounding of threaded sums).
Matrices are trained with Muon (momentum, orthogonalised), everything else with Adam; the rate is constant and falls
linearly to zero over the last part of the run.

    python training/train.py --steps 3000 --run training/runs/main
"""

from __future__ import annotations

import argparse
import json
import random
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

import tokenizer as vocabulary
from measure import held_out_samples, teacher_forced
from network import Network, Packing, Shape
from tasks import FULL, TASKS, Level, training_sample

DRAFT_WEIGHT = 0.3


@dataclass(frozen=True)
class Phase:
    """A part of the run. The last one has no end."""

    until: int | None
    level: Level
    prompt_share: float  # share of the prompt's tokens that are learnt too, with a small weight


# At first a little of the prompt is learnt too, which gives the embeddings something to do; later that is only noise,
# because the contents are random. Matching keys is learnt on short lists and then stretched.
MIXED = {"intent": 0.14, "receipt": 0.22, "arithmetic": 0.3, "lookup": 0.26, "small talk": 0.08}
SHORT = {"intent": 0.1, "receipt": 0.16, "arithmetic": 0.38, "lookup": 0.3, "small talk": 0.06}
PHASES = (
    Phase(1000, Level(MIXED, 36, 5, 100), 0.15),
    Phase(2000, Level(SHORT, 10, 3, 50), 0.0),
    Phase(None, FULL, 0.0),
)
PROMPT_WEIGHT = 0.1  # beside an answer of one token


class Batches:
    """Packed training batches; batch ``step`` depends on the seed and the step only."""

    def __init__(self, tokenizer: Tokenizer, seed: int, rows: int, length: int) -> None:
        self.tokenizer, self.seed, self.rows, self.length = tokenizer, seed, rows, length

    def at(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, segment numbers and loss weights (of the token at that place, as a target), all ``[rows, length]``."""
        rng = random.Random(f"{self.seed}/{step}")
        phase = next(phase for phase in PHASES if phase.until is None or step < phase.until)
        ids = torch.zeros(self.rows, self.length, dtype=torch.long)
        segments = torch.zeros(self.rows, self.length, dtype=torch.long)
        weights = torch.zeros(self.rows, self.length)
        used, misses, number = [0] * self.rows, 0, 0
        while misses < 8:
            tokens, written = vocabulary.encode(self.tokenizer, training_sample(rng, phase.level))
            row = min(range(self.rows), key=used.__getitem__)
            start, stop = used[row], used[row] + len(tokens)
            if stop > self.length:
                misses += 1
                continue
            number += 1
            answer = sum(written) ** -0.5
            ids[row, start:stop] = torch.tensor(tokens)
            segments[row, start:stop] = number
            weights[row, start:stop] = torch.tensor(
                [answer if own else PROMPT_WEIGHT * (rng.random() < phase.prompt_share) for own in written]
            )
            weights[row, start] = 0
            used[row] = stop
        return ids, segments, weights


def weighted_sum(net: Network, hidden: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of the cross entropy over the positions that carry weight."""
    place = weights > 0
    losses = functional.cross_entropy(net.logits(hidden[place]), targets[place], reduction="none")
    return (losses * weights[place]).sum()


def losses_of(net: Network, ids: Tensor, segments: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted loss sums of the next token, and of the draft head's token after next."""
    packing = Packing(segments)
    hidden = net.trunk(ids, packing)
    main = weighted_sum(net, hidden[:, :-1], ids[:, 1:], weights[:, 1:])
    # A draft is only asked for where the token it has seen belongs to the same sample as its target.
    inside = weights[:, 2:] * (segments[:, 2:] == segments[:, :-2])
    draft = weighted_sum(net, net.draft(hidden, ids, packing)[:, :-1], ids[:, 2:], inside)
    return main, draft


class Gradients:
    """Gradients of a step, from parts of the batch that worker threads take as they become free.

    Every worker computes with one thread, so a busy core slows its own part down and not the others; the parts are
    added in their order, so the sum does not depend on who was faster.
    """

    def __init__(self, net: Network, batches: Batches, pool: ThreadPoolExecutor, part_rows: int = 2) -> None:
        self.net, self.batches, self.pool, self.part_rows = net, batches, pool, part_rows
        self.following: tuple[int, Future[tuple[Tensor, Tensor, Tensor]]] | None = None

    def _part(self, batch: tuple[Tensor, ...], start: int, total: float) -> tuple[float, float, tuple[Tensor, ...]]:
        part = [x[start : start + self.part_rows] for x in batch]
        main, draft = losses_of(self.net, *part)
        gradients = torch.autograd.grad((main + DRAFT_WEIGHT * draft) / total, list(self.net.parameters()))
        return main.item() / total, draft.item() / total, gradients

    def of(self, step: int) -> tuple[float, float]:
        """Set every parameter's gradient and return the losses."""
        if self.following is not None and self.following[0] == step:
            batch = self.following[1].result()
        else:
            batch = self.batches.at(step)
        self.following = step + 1, self.pool.submit(self.batches.at, step + 1)
        total = float(batch[2].sum())
        starts = range(0, len(batch[0]), self.part_rows)
        parts = list(self.pool.map(lambda start: self._part(batch, start, total), starts))
        for number, weight in enumerate(self.net.parameters()):
            weight.grad = sum(gradients[number] for _, _, gradients in parts)
        return sum(part[0] for part in parts), sum(part[1] for part in parts)


def orthogonal(x: Tensor) -> Tensor:
    """The nearest semi-orthogonal matrix, roughly: five steps of a quintic Newton-Schulz iteration."""
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if tall else x


class Optimizer:
    """Muon for the matrices of the layers, Adam for embeddings, norms, convolutions and gates."""

    def __init__(
        self, net: Network, pool: ThreadPoolExecutor, matrix_rate: float, other_rate: float, decay: float
    ) -> None:
        self.pool = pool
        named = [(name, weight) for name, weight in net.named_parameters()]
        chosen = {n for n, p in named if p.dim() == 2 and min(p.shape) >= 16 and "embed" not in n}
        self.matrices = [p for n, p in named if n in chosen]
        self.momenta = [torch.zeros_like(p) for p in self.matrices]
        self.adam = torch.optim.AdamW(
            [p for n, p in named if n not in chosen], lr=other_rate, betas=(0.9, 0.98), weight_decay=0.0
        )
        self.matrix_rate, self.other_rate, self.decay = matrix_rate, other_rate, decay

    @torch.no_grad()
    def step(self, scale: float) -> None:
        """Apply the gradients with both rates multiplied by ``scale``."""
        list(self.pool.map(self._step_matrix, self.matrices, self.momenta, repeat(self.matrix_rate * scale)))
        for group in self.adam.param_groups:
            group["lr"] = self.other_rate * scale
        self.adam.step()
        self.adam.zero_grad()

    @torch.no_grad()
    def _step_matrix(self, weight: Tensor, momentum: Tensor, rate: float) -> None:
        assert weight.grad is not None
        momentum.lerp_(weight.grad, 0.05)
        update = orthogonal(weight.grad.lerp(momentum, 0.95))
        weight.mul_(1 - rate * self.decay)
        weight.add_(update, alpha=-rate * max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5)
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


def save(path: Path, net: Network, optimizer: Optimizer, step: int) -> None:
    """Write a checkpoint; the old one stays whole until the new one is."""
    fresh = path.with_suffix(".new")
    torch.save(
        {"shape": net.shape.as_dict(), "weights": net.state_dict(), "optimizer": optimizer.state(), "step": step}, fresh
    )
    fresh.replace(path)


def accuracies(net: Network, tokenizer: Tokenizer, count: int = 48) -> dict[str, float]:
    """Rough accuracy of every task on held-out samples, thinking and not."""
    return {
        task: round(teacher_forced(net, tokenizer, held_out_samples(task, count, seed=7)).accuracy, 3) for task in TASKS
    }


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path(__file__).parent / "runs" / "main")
    parser.add_argument("--steps", type=int, default=4200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--ffn-width", type=int, default=384)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--other-rate", type=float, default=3e-3)
    parser.add_argument("--decay", type=float, default=0.02)
    parser.add_argument("--warmup", type=int, default=100)
    parser.add_argument("--cooldown", type=float, default=0.42)
    parser.add_argument("--every", type=int, default=250, help="steps between accuracy checks and checkpoints")
    return parser.parse_args()


def main() -> None:
    """Train, or resume the run in the folder."""
    args = parse()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(args.threads)
    args.run.mkdir(parents=True, exist_ok=True)
    tokenizer = vocabulary.load(args.run.parent / "tokenizer.json")
    net = Network(Shape(vocabulary.VOCAB_SIZE, num_layers=args.layers, ffn_width=args.ffn_width), args.seed)
    optimizer = Optimizer(net, pool, args.matrix_rate, args.other_rate, args.decay)
    checkpoint, begun = args.run / "checkpoint.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        net.load_state_dict(saved["weights"])
        optimizer.restore(saved["optimizer"])
        begun = saved["step"]
    gradients = Gradients(net, Batches(tokenizer, args.seed, args.rows, args.length), pool)
    log = (args.run / "log.jsonl").open("a")
    clock, recent = time.time(), []
    for step in range(begun, args.steps):
        losses = gradients.of(step)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step(rate_at(step, args.steps, args.warmup, args.cooldown))
        recent.append(losses)
        done = step + 1
        if done % 50 == 0 or done == args.steps:
            first, second = (sum(values) / len(recent) for values in zip(*recent, strict=True))
            record = {
                "step": done,
                "loss": round(first, 4),
                "draft_loss": round(second, 4),
                "seconds": round(time.time() - clock, 1),
            }
            if done % args.every == 0 or done == args.steps:
                save(checkpoint, net, optimizer, done)
                record["accuracy"] = accuracies(net, tokenizer)
            print(json.dumps(record), flush=True)
            log.write(json.dumps(record) + "\n")
            log.flush()
            recent = []


if __name__ == "__main__":
    main()
