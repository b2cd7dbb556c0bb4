"""Accuracy on fresh held-out samples, by teacher forcing.

Greedy decoding reproduces the expected text exactly when the likeliest token is the expected one at every position of
the completion, so one forward pass over the whole text decides a sample without generating it.

    python training/measure.py --run training/runs/main --count 100
"""

from __future__ import annotations

import argparse
import random
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn import functional

import tokenizer as vocabulary
from export import load_network
from eyes import patches_of
from mixture import TASKS, draw
from network import Network, Seen
from tasks import FULL, Sample
from tasks_text import code


@dataclass(frozen=True)
class Outcome:
    """Results of one task."""

    accuracy: float  # share of samples whose whole completion is exact
    acceptance: float  # share of positions where the first draft equals the trunk's own next choice
    failures: tuple[Sample, ...]


def held_out_samples(task: str, count: int, seed: int, thinking: bool | None = None) -> list[Sample]:
    """Samples of one task with held-out templates; a function of the arguments only."""
    rng = random.Random(f"held out/{task}/{seed}/{thinking}")
    return [draw(rng, True, task, thinking) for _ in range(count)]


@torch.no_grad()
def teacher_forced(net: Network, tokenizer: Tokenizer, samples: list[Sample]) -> Outcome:
    """Measure some samples."""
    count = len(samples)
    encoded = [vocabulary.encode(tokenizer, sample) for sample in samples]
    order = sorted(range(count), key=lambda index: len(encoded[index][0]))
    exact, agreed, drafted, failures = 0, 0, 0, []
    pads = {tokenizer.token_to_id(text) for text in ("<|image_pad|>", "<|video_pad|>")}
    for start in range(0, count, 16):
        group = [encoded[index] for index in order[start : start + 16]]
        longest = -(-max(len(ids) for ids, _ in group) // 64) * 64
        ids = torch.zeros(len(group), longest, dtype=torch.long)
        positions = torch.zeros(len(group), longest, 3, dtype=torch.long)
        for row, (tokens, _) in enumerate(group):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            positions[row, : len(tokens)] = torch.tensor(vocabulary.positions_of(tokens, pads))
        seen = []
        for row, index in enumerate(order[start : start + 16]):
            for picture in samples[index].pictures:
                side = picture.frames.shape[1] // 16
                at = [row * longest + i for i, token in enumerate(group[row][0]) if token in pads]
                seen.append(Seen(torch.from_numpy(patches_of(picture.frames)), side, side, torch.tensor(at)))
        x = net.embed(ids, seen)
        hidden = net.trunk(x, None, positions)
        chosen = net.logits(hidden).argmax(-1)
        drafts = net.logits(functional.pad(net.draft(hidden[:, :-1], x[:, :-1], None, positions), (0, 0, 0, 2))).argmax(
            -1
        )
        for row, (tokens, written) in enumerate(group):
            # The completion is the last run of written tokens; earlier turns are given.
            begin = len(written) - written[::-1].index(False) if False in written else 0
            right = chosen[row, begin - 1 : len(tokens) - 1].tolist() == tokens[begin:]
            exact += right
            if not right:
                failures.append(samples[order[start + row]])
            spots = range(begin - 1, len(tokens) - 2)
            agreed += sum(int(drafts[row, p] == chosen[row, p + 1]) for p in spots)
            drafted += len(spots)
    return Outcome(exact / count, agreed / max(drafted, 1), tuple(failures))


def copies(count: int, seed: int) -> list[Sample]:
    """Held-out samples of copied code, without reasoning."""
    rng = random.Random(f"held out/code copy/{seed}")
    return [replace(code(rng, True, FULL, "copy"), reasoning=None) for _ in range(count)]


def main() -> None:
    """Print a table of every task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=2024)
    args = parser.parse_args()
    net, tokenizer = load_network(args.run), vocabulary.load(args.run.parent / "tokenizer.json")
    samples = {task: held_out_samples(task, args.count, args.seed) for task in TASKS}
    print("| task | right | first drafts accepted |", "|---|---|---|", sep="\n")
    for task, some in (samples | {"code, copied": copies(args.count, args.seed)}).items():
        outcome = teacher_forced(net, tokenizer, some)
        print(f"| {task} | {outcome.accuracy:.1%} | {outcome.acceptance:.1%} |", flush=True)


if __name__ == "__main__":
    main()
