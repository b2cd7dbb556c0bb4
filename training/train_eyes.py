"""Train the eyes by themselves: every token of a picture is asked for the letters and the shape in it.

It is the first stage: a decoder that looks through eyes that cannot read learns nothing from pictures for a long time.
Resumable; picture ``step`` depends on the seed and the step only.

    python training/train_eyes.py --run training/runs/eyes --steps 1500
"""

from __future__ import annotations

import argparse
import json
import random
import string
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch

from drawing import MOVES, SIDE, TOKEN, Picture, page
from eyes import Eyes, EyeShape, Reader, notes_of, patches_of
from optimizer import Optimizer, rate_at
from tasks import FULL
from tasks_vision import VISION_TASKS, motion, phrase

# Full pages hold five times the letters of a task's picture, for the same work.
SHARES = {"full page": 0.45, "receipt image": 0.3, "document": 0.05, "count": 0.1, "chart": 0.1}
MIXED = string.ascii_letters + 3 * string.digits + ".,:()@-/ " * 2
GRID = SIDE // 16


def full_page(rng: random.Random, fresh: bool) -> Picture:
    """Text in every line: words, numbers, and letters in no order, which cannot be guessed from their neighbours."""
    widest = rng.randrange(12, 21)
    lines = []
    for _ in range(SIDE // TOKEN):
        if rng.random() < 0.5:
            text = " ".join(phrase(rng) for _ in range(3))
        else:
            text = "".join(rng.choice(MIXED) for _ in range(widest))
        price = f"{rng.randrange(2000) / 100:.2f}" if rng.random() < 0.5 else ""
        lines.append((text[: widest - len(price)].strip(), price))
    return page(rng, lines, fresh)


def batch_at(seed: str, step: int, count: int, fresh: bool) -> tuple[torch.Tensor, ...]:
    """Patches and notes of ``count`` pictures."""
    rng = random.Random(f"{seed}/{step}")
    tasks = rng.choices(list(SHARES), list(SHARES.values()), k=count)
    pictures = [
        full_page(rng, fresh) if task == "full page" else VISION_TASKS[task](rng, fresh, FULL).pictures[0]
        for task in tasks
    ]
    columns = zip(*(notes_of(picture) for picture in pictures), strict=True)
    patches = np.concatenate([patches_of(picture.frames) for picture in pictures])
    return torch.from_numpy(patches), *(torch.from_numpy(np.stack(column)) for column in columns)


def videos_at(seed: str, step: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches of pairs of frames of ``count`` videos, and the direction of motion of each pair."""
    rng = random.Random(f"{seed}/video/{step}")
    samples = [motion(rng, False, FULL) for _ in range(count)]
    moves = [sorted(MOVES).index(sample.answer) for sample in samples for _ in sample.pictures[0].seconds]
    patches = np.concatenate([patches_of(sample.pictures[0].frames) for sample in samples])
    return torch.from_numpy(patches), torch.tensor(moves)


class Both(torch.nn.Module):
    """The eyes and what asks them."""

    def __init__(self, shape: EyeShape, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.eyes, self.reader = Eyes(shape), Reader(shape.out_width)


def main() -> None:
    """Train, or resume the run in the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path(__file__).parent / "runs" / "eyes")
    parser.add_argument("--start", type=Path, help="an earlier run whose eyes to begin with")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--matrix-rate", type=float, default=0.02)
    parser.add_argument("--other-rate", type=float, default=3e-3)
    parser.add_argument("--every", type=int, default=100)
    args = parser.parse_args()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(args.threads)
    args.run.mkdir(parents=True, exist_ok=True)
    both = Both(EyeShape(), args.seed)
    optimizer = Optimizer(both, pool, args.matrix_rate, args.other_rate, 0.02)
    path, begun = args.run / "checkpoint.pt", 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        both.load_state_dict(saved["weights"])
        optimizer.restore(saved["optimizer"])
        begun = saved["step"]
    elif args.start is not None:  # readers it lacks begin anew
        both.load_state_dict(torch.load(args.start / "checkpoint.pt", weights_only=True)["weights"], strict=False)
    test = batch_at("held out", 0, 64, True)

    def part(batch: tuple[tuple[torch.Tensor, ...], ...], start: int) -> tuple[float, tuple[torch.Tensor, ...]]:
        patches, *notes = (x[start : start + 4] for x in batch[0])
        clips, moves = (x[2 * start : 2 * start + 8] for x in batch[1])
        with torch.autocast("cpu", torch.bfloat16):
            loss = both.reader.loss(both.eyes(patches, GRID, GRID), tuple(notes)) / (64 * args.pictures)
            loss = loss + both.reader.motion_loss(both.eyes(clips, 4, 4), moves) / (8 * args.pictures)
        return loss.item(), torch.autograd.grad(loss, list(both.parameters()))

    clock, recent = time.time(), []

    def draw(step: int) -> tuple[tuple[torch.Tensor, ...], ...]:
        return batch_at(str(args.seed), step, args.pictures, False), videos_at(str(args.seed), step, args.pictures)

    coming = pool.submit(draw, begun)
    log = (args.run / "log.jsonl").open("a")
    for step in range(begun, args.steps):
        batch = coming.result()
        coming = pool.submit(draw, step + 1)
        results = list(pool.map(partial(part, batch), range(0, args.pictures, 4)))
        for number, weight in enumerate(both.parameters()):
            weight.grad = sum(gradients[number] for _, gradients in results)
        torch.nn.utils.clip_grad_norm_(both.parameters(), 1.0)
        optimizer.step(rate_at(step, args.steps, 50, 0.4))
        recent.append(sum(loss for loss, _ in results))
        done = step + 1
        if done % args.every == 0 or done == args.steps:
            with torch.no_grad():
                scores = both.reader.scores(both.eyes(test[0], GRID, GRID), test[1:])
            record = {
                "step": done,
                "loss": round(sum(recent) / len(recent), 4),
                "seconds": round(time.time() - clock, 1),
            }
            record["letters"], record["shapes"] = (round(score, 4) for score in scores)
            print(json.dumps(record), flush=True)
            log.write(json.dumps(record) + "\n")
            log.flush()
            fresh = path.with_suffix(".new")
            torch.save({"weights": both.state_dict(), "optimizer": optimizer.state(), "step": done}, fresh)
            fresh.replace(path)
            recent = []


if __name__ == "__main__":
    main()
