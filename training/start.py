"""Begin a run with what an exported file of this recipe has learnt, and with eyes that can read already.

    python training/start.py --model src/loqal/assets/demo.gguf --eyes training/runs/eyes --out training/runs/start.pt

The file may be narrower, have fewer layers and another vocabulary. Its numbers fill the first rows and columns; new
columns that read are random, new rows that write are nearly zero, so the wider network begins with the answers of the
narrow one. A layer it lacks begins as a copy of the nearest one of its kind that writes nothing yet. Tokens keep their
rows by their text; a new token begins as the mean of the old tokens it is made of.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers

import tokenizer as vocabulary
from eyes import EyeShape, notes_of, patches_of
from loqal.formats import decode
from loqal.testing.checkpoints import to_hf
from loqal.weights.load import Checkpoint, open_checkpoint
from network import Network, Shape
from tasks_vision import crowd
from train_eyes import GRID, batch_at


def old_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """The vocabulary of an exported file."""
    keys = checkpoint.metadata
    tokens, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
    plain = {text: index for index, (text, kind) in enumerate(zip(tokens, types, strict=True)) if kind == 1}
    merges = [tuple(merge.split(" ")) for merge in keys["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE(plain, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = vocabulary.splitter()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def embedding(old: np.ndarray, checkpoint: Checkpoint, tokenizer: Tokenizer, rows: int) -> np.ndarray:
    """The old rows under the new token ids, in the old width."""
    before, tokens = old_tokenizer(checkpoint), list(checkpoint.metadata["tokenizer.ggml.tokens"])
    ids = {text: index for index, text in enumerate(tokens)}
    out = np.tile(old.mean(0), (rows, 1))
    for text, index in tokenizer.get_vocab().items():
        if text in ids:
            out[index] = old[ids[text]]
            continue
        parts = before.encode(tokenizer.decode([index], skip_special_tokens=False), add_special_tokens=False).ids
        if parts:
            out[index] = old[parts].mean(0)
    return out


# Norms over the residual. Over a wider vector of the same length the mean square is smaller, so their factor must be.
RESIDUAL_NORMS = (
    "input_layernorm.weight",
    "post_attention_layernorm.weight",
    "pre_fc_norm_embedding.weight",
    "pre_fc_norm_hidden.weight",
)
WRITERS = ("o_proj.weight", "out_proj.weight", "down_proj.weight")


@torch.no_grad()
def fill(target: torch.Tensor, old: np.ndarray, name: str, widths: tuple[int, int]) -> None:
    """Put the old numbers into the new tensor, in place."""
    before, now = widths
    value = torch.from_numpy(np.ascontiguousarray(old))
    if name.endswith(RESIDUAL_NORMS) or name in ("norm.weight", "mtp.norm.weight"):
        target[:before] = (1 + value) * (before / now) ** 0.5 - 1
    elif name == "mtp.fc.weight":
        target[before:] *= 0.2
        for half in range(2):
            target[:before, half * now : half * now + before] = value[:, half * before : (half + 1) * before]
    else:
        if name.endswith(WRITERS):  # new rows write into the new part of the residual, new columns into all of it
            target[value.shape[0] :] *= 0.2
            target[:, value.shape[1] :] *= 0.2
        target[tuple(slice(0, size) for size in value.shape)] = value


def sources(old: tuple[str, ...], new: tuple[str, ...]) -> list[tuple[int, bool]]:
    """For every new layer the old one it begins with, and whether it stands for it; the latest ones do.

    Raises:
        ValueError: the new layers do not hold the old ones in their order.
    """
    out: list[tuple[int, bool]] = []
    left = len(old)
    for kind in reversed(new):
        stands = left > 0 and old[left - 1] == kind
        left -= stands
        like = [index for index, other in enumerate(old) if other == kind]
        out.append((left, True) if stands else (min(like, key=lambda index: abs(index - left)), False))
    if left:
        raise ValueError(f"layers {old} do not fit into {new}")
    return out[::-1]


@torch.no_grad()
def retell(net: Network, matrix: torch.Tensor, mean: torch.Tensor, after: torch.Tensor) -> None:
    """Let the eyes say ``matrix @ (x - mean) + after`` where they said ``x``. The reader still understands them."""
    last, back = net.visual.merger.linear_fc2, torch.linalg.inv(matrix)
    last.weight.copy_(matrix @ last.weight)
    last.bias.copy_(matrix @ (last.bias - mean) + after)
    for asked in net.reader.children():
        asked.bias += asked.weight @ (mean - back @ after)
        asked.weight.copy_(asked.weight @ back)


@torch.no_grad()
def settle(net: Network) -> None:
    """Bring what the eyes say to the size of embeddings: ten times larger, no layer could add to it."""
    rows = net.visual(batch_at("start", 0, 16, False)[0], GRID, GRID).flatten(0, 1)
    mean = rows.mean(0)
    factor = 2 * net.embed_tokens.weight.square().mean().sqrt() / (rows - mean).square().mean().sqrt()
    retell(net, factor * torch.eye(len(mean)), mean, torch.zeros_like(mean))


@torch.no_grad()
def bring_out_shapes(net: Network, scenes: int = 150) -> None:
    """Make three times larger what tells kinds and colours of shapes apart: each was a fifteenth of the variance."""
    rng = random.Random("shapes")
    pictures = [crowd(rng)[0] for _ in range(scenes)]
    rows = torch.cat([net.visual(torch.from_numpy(patches_of(one.frames)), GRID, GRID)[0] for one in pictures])
    noted = torch.from_numpy(np.concatenate([notes_of(one)[2] for one in pictures]))
    there = noted[:, 0] > 0
    mean, shapes, noted = rows.mean(0), rows[there], noted[there]
    apart = [shapes[noted[:, i] == value].mean(0) - shapes.mean(0) for i in (0, 1) for value in noted[:, i].unique()]
    apart.append(shapes.mean(0) - rows[~there].mean(0))
    directions, sizes, _ = torch.linalg.svd(torch.stack(apart, 1), full_matrices=False)
    directions = directions[:, sizes > 0.05 * sizes[0]]
    retell(net, torch.eye(len(mean)) + 2 * directions @ directions.T, mean, mean)


def teach_reader(net: Network, steps: int) -> None:
    """Let a new reader learn what eyes from a file say, while they rest: a wrong one would spoil them."""
    optimizer = torch.optim.Adam(net.reader.parameters(), lr=1e-2)
    for step in range(steps):
        patches, *notes = batch_at("reader", step, 8, False)
        with torch.no_grad():
            rows = net.visual(patches, GRID, GRID)
        loss = net.reader.loss(rows, tuple(notes)) / rows[..., 0].numel()
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * (1 - step / steps)
        optimizer.step()
        if (step + 1) % 50 == 0:
            print(f"reader, step {step + 1}: {loss.item():.3f}", flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--mmproj", type=Path)
    parser.add_argument("--eyes", type=Path)
    parser.add_argument("--reader-steps", type=int, default=300, help="for the reader of eyes from --mmproj")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    tokenizer = vocabulary.load(args.out.parent / "tokenizer.json")
    net = Network(Shape(vocabulary.VOCAB_SIZE), args.seed, EyeShape())
    checkpoint = open_checkpoint(args.model, mmproj=args.mmproj)
    stored = [checkpoint.tensors[name] for name in checkpoint.tensors]
    read = {tensor.name: decode(tensor.format, tensor.data, tensor.shape) for tensor in stored}
    state, widths = to_hf(checkpoint.config, read), (checkpoint.config.width, net.shape.width)
    weights = dict(net.named_parameters())
    kinds = tuple("attention" if net.shape.is_attention(layer) else "delta" for layer in range(net.shape.num_layers))
    placed = sources(checkpoint.config.layers, kinds)
    for full, old in state.items():
        name = full.removeprefix("model.").removeprefix("language_model.")
        if name == "embed_tokens.weight":
            old = embedding(old, checkpoint, tokenizer, vocabulary.VOCAB_SIZE)
        if not name.startswith("layers."):
            if name in weights:
                fill(weights[name], old, name, widths)
            continue
        _, number, rest = name.split(".", 2)
        for layer, (source, stands) in enumerate(placed):
            if source == int(number):
                fill(weights[f"layers.{layer}.{rest}"], old, rest, widths)
                if not stands and rest.endswith(WRITERS):
                    weights[f"layers.{layer}.{rest}"].data.zero_()
    with torch.no_grad():
        new = net.embed_tokens.weight[:, widths[0] :]
        new.normal_(std=0.3 * float(net.embed_tokens.weight[:, : widths[0]].std()))
    if args.eyes is not None:
        saved = torch.load(args.eyes / "checkpoint.pt", weights_only=True)["weights"]
        seen = {name.removeprefix("eyes."): value for name, value in saved.items() if name.startswith("eyes.")}
        net.visual.load_state_dict(seen)
        net.reader.load_state_dict({n.removeprefix("reader."): v for n, v in saved.items() if n.startswith("reader.")})
        settle(net)
        bring_out_shapes(net)
    elif args.mmproj is not None:
        teach_reader(net, args.reader_steps)
    torch.save(net.state_dict(), args.out)


if __name__ == "__main__":
    main()
