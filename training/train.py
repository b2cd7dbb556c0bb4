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
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

import tokenizer as vocabulary
from drawing import TOKEN, Picture
from eyes import EyeShape, notes_of, patches_of
from measure import held_out_samples, teacher_forced
from mixture import SHARES, TASKS, long_sample, training_sample
from network import Network, Packing, Seen, Shape
from optimizer import Optimizer, rate_at
from tasks import FULL, Level

DRAFT_WEIGHT = 0.3
READING_WEIGHT = 3.0  # the eyes go on being asked what they see: taught by answers alone they forget it
EYES_SHARE = 0.3  # of the rates
DRAFT_EVERY = 3  # the draft head learns in every third step, which is enough and saves a tenth of the time


# Text comes first: it costs less, and who can copy text learns to copy from pictures sooner. Matching keys is learnt on
# short lists and then stretched.
TEXT_FIRST = {
    "intent": 0.05,
    "receipt": 0.11,
    "arithmetic": 0.12,
    "lookup": 0.16,
    "small talk": 0.06,
    "triage": 0.09,
    "tool": 0.06,
    "schema": 0.1,
    "code": 0.16,
    "count": 0.04,
    "document": 0.02,
    "motion": 0.03,
}

# What lies at a place of a scene is learnt late and then at once, sooner from scenes by far than from everything.
# Scenes alone would take the eyes their letters.
SCENES_FIRST = {**SHARES, "count": 4.0}


def level_at(step: int, text_first: int, scenes_first: int) -> Level:
    """How hard the samples of a step are: first ``text_first`` with few pictures, then ``scenes_first`` of scenes."""
    if step >= text_first + scenes_first:
        return FULL
    if step >= text_first:
        return replace(FULL, shares=SCENES_FIRST)
    return Level(TEXT_FIRST, 12, 3, 50) if step < 100 else Level(TEXT_FIRST, 36, 5, 50)


@dataclass(frozen=True)
class Batch:
    """Rows that hold several samples each; ``weights`` are those of the token at a place, as a target."""

    ids: Tensor  # [rows, length], like the next two
    segments: Tensor
    weights: Tensor
    positions: Tensor  # [rows, length, 3]
    pictures: tuple[tuple[int, tuple[int, ...], Picture], ...]  # row, where its pads begin, and what is to be seen

    def part(self, start: int, stop: int) -> Batch:
        """Some of the rows."""
        kept = tuple((row - start, *rest) for row, *rest in self.pictures if start <= row < stop)
        return Batch(*(x[start:stop] for x in (self.ids, self.segments, self.weights, self.positions)), kept)

    def seen(self, device: str) -> list[Seen]:
        """The pictures by their grids, images first."""
        length, groups = self.ids.shape[1], []
        for moving in (False, True):
            some = [
                ([row * length + at for at in starts], p) for row, starts, p in self.pictures if p.is_video == moving
            ]
            if not some:
                continue
            side = some[0][1].frames.shape[1] // TOKEN
            patches = np.concatenate([patches_of(picture.frames) for _, picture in some])
            places = torch.cat([torch.arange(at, at + side**2) for starts, _ in some for at in starts])
            groups.append(Seen(torch.from_numpy(patches).to(device), 2 * side, 2 * side, places.to(device)))
        return groups

    def notes(self, device: str) -> tuple[Tensor, ...]:
        """What there is to see in the images."""
        columns = zip(*(notes_of(picture) for *_, picture in self.pictures if not picture.is_video), strict=True)
        return tuple(torch.from_numpy(np.stack(column)).to(device) for column in columns)


class Batches:
    """Packed training batches; batch ``step`` depends on the seed and the step only."""

    def __init__(self, tokenizer: Tokenizer, args: argparse.Namespace) -> None:
        self.tokenizer, self.args = tokenizer, args
        self.pads = {tokenizer.token_to_id(text) for text in ("<|image_pad|>", "<|video_pad|>")}

    def at(self, step: int) -> Batch:
        """The batch of a step. Every ``long_every``-th has fewer, longer rows, for look-ups in long lists."""
        args = self.args
        rng = random.Random(f"{args.seed}/{step}")
        level = level_at(step, args.text_first, args.scenes_first)
        is_long = args.long_every > 0 and step % args.long_every == args.long_every - 1 and step >= args.long_from
        rows, length = (2, args.long_length) if is_long else (args.rows, args.length)
        ids = torch.zeros(rows, length, dtype=torch.long)
        segments = torch.zeros(rows, length, dtype=torch.long)
        weights = torch.zeros(rows, length)
        positions = torch.arange(length)[None, :, None].repeat(rows, 1, 3)
        pictures: list[tuple[int, tuple[int, ...], Picture]] = []
        used, misses, number = [0] * rows, 0, 0
        while misses < 6:
            row = min(range(rows), key=used.__getitem__)
            sample = long_sample(rng, length - used[row]) if is_long else training_sample(rng, level)
            tokens, written = vocabulary.encode(self.tokenizer, sample)
            start, stop = used[row], used[row] + len(tokens)
            if stop > length:
                misses += 1
                continue
            number += 1
            answer = sum(written) ** -0.5
            ids[row, start:stop] = torch.tensor(tokens)
            segments[row, start:stop] = number
            positions[row, start:stop] = torch.tensor(vocabulary.positions_of(tokens, self.pads))
            weights[row, start:stop] = torch.tensor([answer if own else 0.0 for own in written])
            weights[row, start] = 0
            pads = [start + place for place, token in enumerate(tokens) if token in self.pads]
            weights[row, pads] = 0
            begins = tuple(at for at, before in zip(pads, [-1, *pads], strict=False) if at != before + 1)
            pictures += [(row, begins, picture) for picture in sample.pictures]
            used[row] = stop
        return Batch(ids, segments, weights, positions, tuple(pictures))


def weighted_sum(net: Network, hidden: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of the cross entropy over the positions that carry weight."""
    place = weights > 0
    losses = functional.cross_entropy(net.logits(hidden[place]).float(), targets[place], reduction="none")
    return (losses * weights[place]).sum()


def losses_of(net: Network, batch: Batch, with_draft: bool, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Loss sums: of the next token and the draft head's token after next, both weighted, and of reading."""
    ids, segments, weights, positions = (
        x.to(device) for x in (batch.ids, batch.segments, batch.weights, batch.positions)
    )
    packing = Packing(segments)
    seen = batch.seen(device)
    looked = net.look(seen)
    x = net.embed(ids, seen, looked)
    hidden = net.trunk(x, packing, positions)
    main = weighted_sum(net, hidden[:, :-1], ids[:, 1:], weights[:, 1:])
    draft = reading = main.new_zeros(())
    if with_draft:
        # A draft is only asked for where the token it has seen belongs to the same sample as its target.
        inside = weights[:, 2:] * (segments[:, 2:] == segments[:, :-2])
        drafted = net.draft(hidden, x, packing, positions)
        draft = weighted_sum(net, drafted[:, :-1], ids[:, 2:], inside)
    notes = batch.notes(device)
    if notes:
        reading = net.reader.loss(looked[0], notes) / looked[0].shape[1]
    return main, draft, reading


class Gradients:
    """Gradients of a step, from parts of the batch that worker threads take as they become free.

    Every worker computes with one thread, so a busy core slows its own part down and not the others; the parts are
    added in their order, so the sum does not depend on who was faster. A GPU is one worker that takes the whole batch.
    """

    def __init__(self, net: Network, batches: Batches, pool: ThreadPoolExecutor, device: str) -> None:
        self.net, self.batches, self.pool, self.device = net, batches, pool, device
        self.weights = list(net.parameters())
        self.following: tuple[int, Future[Batch]] | None = None

    def _part(
        self, part: Batch, totals: tuple[float, float, float], with_draft: bool
    ) -> tuple[list[float], tuple[Tensor | None, ...]]:
        with torch.autocast(self.device, torch.bfloat16):
            sums = losses_of(self.net, part, with_draft, self.device)
        main, draft, reading = (loss / total for loss, total in zip(sums, totals, strict=True))
        whole = main + DRAFT_WEIGHT * draft + READING_WEIGHT * reading
        gradients = torch.autograd.grad(whole, self.weights, allow_unused=True)
        return [main.item(), draft.item(), reading.item()], gradients

    def of(self, step: int) -> list[float]:
        """Set every parameter's gradient and return the losses."""
        if self.following is not None and self.following[0] == step:
            batch = self.following[1].result()
        else:
            batch = self.batches.at(step)
        self.following = step + 1, self.pool.submit(self.batches.at, step + 1)
        total, rows = float(batch.weights.sum()), len(batch.ids)
        totals = total, total, float(max(1, sum(not picture.is_video for *_, picture in batch.pictures)))
        size = rows if self.device != "cpu" else max(1, rows // 4)
        parts = [batch.part(start, start + size) for start in range(0, rows, size)]
        results = list(self.pool.map(lambda part: self._part(part, totals, step % DRAFT_EVERY == 0), parts))
        for number, weight in enumerate(self.weights):
            found = [gradients[number] for _, gradients in results if gradients[number] is not None]
            weight.grad = sum(found[1:], found[0]) if found else None
        return [sum(column) for column in zip(*(losses for losses, _ in results), strict=True)]


def save(path: Path, net: Network, optimizer: Optimizer, step: int) -> None:
    """Write a checkpoint; the old one stays whole until the new one is."""
    fresh = path.with_suffix(".new")
    shape, eyes = net.shape.as_dict(), asdict(net.visual.shape)
    state = {"shape": shape, "eyes": eyes, "weights": net.state_dict(), "optimizer": optimizer.state(), "step": step}
    torch.save(state, fresh)
    fresh.replace(path)


def accuracies(net: Network, tokenizer: Tokenizer, count: int) -> dict[str, float]:
    """Rough accuracy of every task on held-out samples, thinking and not."""
    return {
        task: round(teacher_forced(net, tokenizer, held_out_samples(task, count, seed=7)).accuracy, 3) for task in TASKS
    }


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path(__file__).parent / "runs" / "main")
    parser.add_argument("--start", type=Path, help="weights to begin with, made by start.py")
    parser.add_argument("--steps", type=int, default=4200)
    parser.add_argument("--text-first", type=int, default=700, help="steps before those with many pictures")
    parser.add_argument("--scenes-first", type=int, default=0, help="steps after those that are mostly scenes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--long-every", type=int, default=12, help="every how many steps the rows are long")
    parser.add_argument("--long-from", type=int, default=150)
    parser.add_argument("--long-length", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--matrix-rate", type=float, default=0.01)
    parser.add_argument("--other-rate", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.02)
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--cooldown", type=float, default=0.42)
    parser.add_argument("--every", type=int, default=50, help="steps between checkpoints")
    parser.add_argument("--check-every", type=int, default=400, help="steps between accuracy checks")
    parser.add_argument("--check-count", type=int, default=32, help="samples of a task in an accuracy check")
    return parser.parse_args()


def main() -> None:
    """Train, or resume the run in the folder."""
    args = parse()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(args.threads)
    args.run.mkdir(parents=True, exist_ok=True)
    tokenizer = vocabulary.load(args.run.parent / "tokenizer.json")
    net = Network(Shape(vocabulary.VOCAB_SIZE), args.seed, EyeShape()).to(device)
    optimizer = Optimizer(
        net,
        pool,
        args.matrix_rate,
        args.other_rate,
        args.decay,
        lambda name: EYES_SHARE if name.startswith("visual.") else 1.0,
    )
    checkpoint, begun = args.run / "checkpoint.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True, map_location=device)
        net.load_state_dict(saved["weights"])
        optimizer.restore(saved["optimizer"])
        begun = saved["step"]
    elif args.start is not None:
        net.load_state_dict(torch.load(args.start, weights_only=True, map_location=device))
    gradients = Gradients(net, Batches(tokenizer, args), pool, device)
    log = (args.run / "log.jsonl").open("a")
    clock, recent = time.time(), []
    for step in range(begun, args.steps):
        losses = gradients.of(step)
        torch.nn.utils.clip_grad_norm_(gradients.weights, 1.0)
        optimizer.step(rate_at(step, args.steps, args.warmup, args.cooldown))
        recent.append(losses)
        done = step + 1
        if done % args.every == 0 or done == args.steps:
            columns = zip(("loss", "draft_loss", "reading"), zip(*recent, strict=True), strict=True)
            record = {"step": done}
            for name, values in columns:  # the last two are not of every step
                counted = [value for value in values if value] or [0.0]
                record[name] = round(sum(counted) / len(counted), 4)
            record["seconds"] = round(time.time() - clock, 1)
            save(checkpoint, net, optimizer, done)
            if done % args.check_every == 0 or done == args.steps:
                record["accuracy"] = accuracies(net, tokenizer, args.check_count)
            print(json.dumps(record), flush=True)
            log.write(json.dumps(record) + "\n")
            log.flush()
            recent = []


if __name__ == "__main__":
    main()
