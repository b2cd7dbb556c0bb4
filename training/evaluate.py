"""Measure the demonstration model on fresh samples with held-out templates, and write the table in README.md.

    python training/evaluate.py --run training/runs/main --model src/loqal/assets/demo.gguf

Two runtimes answer the same questions greedily: the float32 network of the recipe, and loqal with the exported file.
An answer counts when it is exactly the expected text; in thinking mode the reasoning before it does not count.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer

import loqal
from export import load_network
from loqal.types import Message, SamplingParams
from measure import Outcome, held_out_samples, teacher_forced
from network import Network
from tasks import END_THINK, IM_END, TASKS, Sample, lookup_samples
from tokenizer import load as load_tokenizer

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
README = Path(__file__).parent / "README.md"
MAX_TOKENS = 200
LOOKUP_SIZES = (4, 12, 24, 36)


@torch.no_grad()
def greedy_answer(net: Network, tokenizer: Tokenizer, sample: Sample) -> str:
    """The answer the network writes, token by token."""
    ids = tokenizer.encode(sample.prompt(), add_special_tokens=False).ids
    begin, end = len(ids), tokenizer.token_to_id(IM_END)
    while len(ids) < begin + MAX_TOKENS and (len(ids) == begin or ids[-1] != end):
        padded = ids + [0] * (-len(ids) % 64)
        hidden = net.trunk(torch.tensor([padded]))[0, len(ids) - 1]
        ids.append(int(net.logits(hidden).argmax()))
    text: str = tokenizer.decode(ids[begin:], skip_special_tokens=True)
    return text.split(END_THINK)[-1].strip()


def with_network(net: Network, tokenizer: Tokenizer, samples: list[Sample]) -> Outcome:
    """The network's accuracy. What teacher forcing calls wrong is decoded.

    The reasoning may differ from the expected one, and a text may be written in other tokens.
    """
    outcome = teacher_forced(net, tokenizer, samples)
    saved = sum(greedy_answer(net, tokenizer, sample) == sample.answer for sample in outcome.failures)
    return Outcome(outcome.accuracy + saved / len(samples), outcome.acceptance, outcome.failures)


def with_loqal(model: loqal.Runtime, samples: list[Sample]) -> float:
    """The accuracy of the exported file in loqal, from messages to text."""
    right = 0
    for sample in samples:
        messages = [Message("system", sample.system)] if sample.system else []
        for user, assistant in sample.turns:
            messages += [Message("user", user), Message("assistant", assistant)]
        messages.append(Message("user", sample.user))
        params = SamplingParams(max_tokens=MAX_TOKENS, temperature=0, presence_penalty=0)
        right += model.chat(messages, params, think=sample.reasoning is not None).text == sample.answer
    return right / len(samples)


def table(net: Network, tokenizer: Tokenizer, model: loqal.Runtime, count: int, seed: int) -> str:
    """The results as Markdown."""
    rows = ["| task | mode | network | loqal | first drafts accepted |", "|---|---|---|---|---|"]
    cases = [
        (task, mode, held_out_samples(task, count, seed, mode == "thinking"))
        for task in TASKS
        for mode in ("direct", "thinking")
    ]
    cases += [(f"lookup, {size} entries", "direct", lookup_samples(size, count, seed)) for size in LOOKUP_SIZES]
    for name, mode, samples in cases:
        ours, theirs = with_network(net, tokenizer, samples), with_loqal(model, samples)
        rows.append(f"| {name} | {mode} | {ours.accuracy:.1%} | {theirs:.1%} | {ours.acceptance:.1%} |")
        print(rows[-1], flush=True)
    return "\n".join(rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path(__file__).parent / "runs" / "main")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200, help="samples for each row")
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with loqal.load(args.model, threads=args.threads) as model:
        net, tokenizer = load_network(args.run), load_tokenizer(args.run.parent / "tokenizer.json")
        text = table(net, tokenizer, model, args.count, args.seed)
    if args.write:
        readme = README.read_text()
        before, after = readme.split(BEGIN)[0], readme.split(END)[1]
        note = f"{args.count} fresh samples for each row, seed {args.seed}, `{args.model.name}`."
        README.write_text(f"{before}{BEGIN}\n{text}\n\n{note}\n{END}{after}")


if __name__ == "__main__":
    main()
