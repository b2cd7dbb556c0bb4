"""The trainable twin of the family's vision tower, small, and what trains it by itself.

Names are those of the published checkpoints behind ``model.visual.``.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from drawing import COLOURS, KINDS, MOVES, SIDE, SLOTS, TOKEN, Picture

LETTERS = sorted(set(string.printable) - set(string.whitespace))
NEAR = 2  # pixels from a token's edge
EDGES = 101  # an edge of a shape lies at one of the hundredths of the picture's side


@dataclass(frozen=True)
class EyeShape:
    """Sizes of the tower."""

    width: int = 192
    depth: int = 4
    num_heads: int = 3
    ffn_width: int = 512
    out_width: int = 256
    patch: int = 16
    merge: int = 2
    side: int = 16  # of the square of learned positions
    theta: float = 1e4


def places_of(rows: int, columns: int, merge: int) -> Tensor:
    """The (row, column) of every patch, by merge blocks: ``[N, 2]``."""
    grid = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1)
    blocks = grid.reshape(rows // merge, merge, columns // merge, merge, 2)
    return blocks.transpose(1, 2).reshape(-1, 2)


def patches_of(frames: np.ndarray, patch: int = 16, merge: int = 2) -> np.ndarray:
    """Patches ``[pairs, N, 1536]`` of frames ``[F, H, W, 3]``, float32 from -1 to 1; a single frame counts twice."""
    if len(frames) == 1:
        frames = np.concatenate([frames, frames])
    pairs, (high, wide) = len(frames) // 2, frames.shape[1:3]
    rows, columns = high // patch // merge, wide // patch // merge
    x = frames.reshape(pairs, 2, rows, merge, patch, columns, merge, patch, 3)
    x = x.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)  # pair, block row and column, row and column in it, colour, frame, pixel
    return x.reshape(pairs, rows * columns * merge**2, -1).astype(np.float32) / 127.5 - 1


class Mlp(nn.Module):
    """Two linear maps with the tanh form of GELU between them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.linear_fc1, self.linear_fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width]`` to the same shape."""
        return self.linear_fc2(functional.gelu(self.linear_fc1(x), approximate="tanh"))


class Attention(nn.Module):
    """Every patch sees every patch of its frame; queries and keys turn by row and column."""

    def __init__(self, shape: EyeShape) -> None:
        super().__init__()
        self.heads = shape.num_heads
        self.qkv, self.proj = nn.Linear(shape.width, 3 * shape.width), nn.Linear(shape.width, shape.width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """``[B, N, width]`` to the same shape."""
        batch, count, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, count, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = (part * cos + torch.cat([-part.chunk(2, -1)[1], part.chunk(2, -1)[0]], -1) * sin for part in (q, k))
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.proj(mixed.transpose(1, 2).reshape(batch, count, width))


class Block(nn.Module):
    """A layer of the tower."""

    def __init__(self, shape: EyeShape) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(shape.width, 1e-6), nn.LayerNorm(shape.width, 1e-6)
        self.attn, self.mlp = Attention(shape), Mlp(shape.width, shape.ffn_width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """``[B, N, width]`` to the same shape."""
        x = x + self.attn(self.norm1(x), cos, sin)
        return x + self.mlp(self.norm2(x))


class Merger(nn.Module):
    """Four patches become one row of the text model's width."""

    def __init__(self, shape: EyeShape) -> None:
        super().__init__()
        inner = shape.width * shape.merge**2
        self.norm = nn.LayerNorm(shape.width, 1e-6)
        self.linear_fc1, self.linear_fc2 = nn.Linear(inner, inner), nn.Linear(inner, shape.out_width)
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """``[B, N, width]`` to ``[B, N / 4, out]``."""
        grouped = self.norm(x).reshape(len(x), -1, self.inner)
        return self.linear_fc2(functional.gelu(self.linear_fc1(grouped)))


class Eyes(nn.Module):
    """Patches to rows that stand for tokens."""

    def __init__(self, shape: EyeShape) -> None:
        super().__init__()
        self.shape = shape
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv3d(3, shape.width, (2, shape.patch, shape.patch), (2, shape.patch, shape.patch))
        self.pos_embed = nn.Embedding(shape.side**2, shape.width)
        nn.init.normal_(self.pos_embed.weight, std=0.1)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.merger = Merger(shape)
        for block in self.blocks:
            nn.init.normal_(block.attn.proj.weight, std=0.02)
            nn.init.normal_(block.mlp.linear_fc2.weight, std=0.02)

    def positions(self, rows: int, columns: int) -> Tensor:
        """The learned positions stretched over a grid, corners on corners, in patch order: ``[N, width]``."""
        side, out = self.shape.side, 0
        places = places_of(rows, columns, self.shape.merge)
        low, share = [], []
        for axis, size in enumerate((rows, columns)):
            source = places[:, axis].float() * (side - 1) / max(size - 1, 1)
            low.append(source.floor().long())
            share.append(source - low[-1])
        for down in range(2):
            for right in range(2):
                at = (low[0] + down).clamp(max=side - 1) * side + (low[1] + right).clamp(max=side - 1)
                weight = (share[0] if down else 1 - share[0]) * (share[1] if right else 1 - share[1])
                out = out + self.pos_embed.weight[at] * weight[:, None].to(self.pos_embed.weight.device)
        return out

    def turns(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines of every patch: ``[N, head_dim]``."""
        dim = self.shape.width // self.shape.num_heads
        rate = self.shape.theta ** (-4 * torch.arange(dim // 4, dtype=torch.float64) / dim)
        angles = (places_of(rows, columns, self.shape.merge)[:, :, None] * rate).flatten(1).repeat(1, 2)
        device = self.pos_embed.weight.device
        return angles.cos().float().to(device), angles.sin().float().to(device)

    def forward(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        """``[B, N, 1536]`` of equal grids to ``[B, N / 4, out]``."""
        proj = self.patch_embed.proj
        x = functional.linear(patches, proj.weight.flatten(1), proj.bias) + self.positions(rows, columns)
        cos, sin = self.turns(rows, columns)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.merger(x)


# Reading by itself ---------------------------------------------------------------------------------------------------


class Reader(nn.Module):
    """What is asked of every token while the eyes learn. Not exported.

    Its letters in order, the shape in it and the edges of that shape, its own row and column, and how high the bar
    above it is; of every token of a video, the direction of motion.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.letters = nn.Linear(width, SLOTS * (len(LETTERS) + 1))
        self.offsets = nn.Linear(width, SLOTS)
        self.shape = nn.Linear(width, len(KINDS) + 1 + len(COLOURS) + 1 + 3)
        self.where = nn.Linear(width, 2 * SIDE // TOKEN)
        self.edges = nn.Linear(width, 4 * EDGES)
        self.height = nn.Linear(width, 1)
        self.motion = nn.Linear(width, len(MOVES))

    def loss(self, rows: Tensor, notes: tuple[Tensor, ...]) -> Tensor:
        """Sum over pictures ``[B, 64, width]`` of the cross entropies, one per letter slot and shape."""
        letters, offsets, shapes, places, edges, heights = notes
        guesses = self.letters(rows).float().unflatten(-1, (SLOTS, -1))
        # Empty tokens are many and easy.
        weight = torch.where(letters > 0, 1.0, 0.2)
        total = functional.cross_entropy(guesses.flatten(0, 2), letters.flatten(), reduction="none") * weight.flatten()
        kind, colour, place = self.shape(rows).float().split([len(KINDS) + 1, len(COLOURS) + 1, 3], -1)
        there = shapes[..., 0] > 0
        share = torch.where(there, 1.0, 0.05).flatten()
        parts = [
            functional.cross_entropy(x.flatten(0, 1), shapes[..., i].flatten(), reduction="none") * share
            for i, x in enumerate((kind, colour))
        ]
        apart = ((place - places).square().sum(-1) * there).sum()
        side = SIDE // TOKEN
        token = torch.arange(side**2, device=rows.device).expand(len(rows), -1)
        where = self.where(rows).float().unflatten(-1, (2, side)).transpose(1, 3)
        lost = functional.cross_entropy(where, torch.stack([token // side, token % side], 2).transpose(1, 2))
        found = functional.cross_entropy(
            self.edges(rows).float().unflatten(-1, (4, EDGES)).transpose(1, 3),
            edges.transpose(1, 2),
            reduction="none",
        )
        tall = (self.height(rows)[..., 0].float() - heights).square() * (heights >= 0)
        off = (self.offsets(rows).float() - offsets).square() * (letters > 0)
        more = 4 * off.sum() + 0.2 * side**2 * len(rows) * lost + 0.2 * (found.sum(1) * there).sum() + 8 * tall.sum()
        return total.sum() + sum(part.sum() for part in parts) + 4 * apart + more

    def motion_loss(self, rows: Tensor, moves: Tensor) -> Tensor:
        """Sum of the cross entropies over the tokens of pairs of frames ``[B, 4, width]`` with directions ``[B]``."""
        return functional.cross_entropy(self.motion(rows).float().mean(1), moves, reduction="sum")

    @torch.no_grad()
    def scores(self, rows: Tensor, notes: tuple[Tensor, ...]) -> tuple[float, float]:
        """Shares of letters and of shapes that are right."""
        letters, _, shapes, *_ = notes
        guesses = self.letters(rows).unflatten(-1, (SLOTS, -1)).argmax(-1)
        kind, colour, _ = self.shape(rows).split([len(KINDS) + 1, len(COLOURS) + 1, 3], -1)
        right = (kind.argmax(-1) == shapes[..., 0]) & (colour.argmax(-1) == shapes[..., 1])
        there = shapes[..., 0] > 0
        read = (guesses == letters)[letters > 0].float().mean().item() if (letters > 0).any() else 1.0
        return read, right[there].float().mean().item() if there.any() else 1.0


def notes_of(picture: Picture) -> tuple[np.ndarray, ...]:
    """Notes of a picture's tokens.

    Letters ``[64, SLOTS]`` and where they are between the token's edges, from 0 to 1. A letter near an edge is noted
    on both sides of it: on which its middle is cannot be seen surely, and where each side decides by itself, it is
    lost or doubled. Shapes ``[64, 2]``, their places ``[64, 3]`` and edges ``[64, 4]`` in hundredths of the picture,
    and heights of bars ``[64]``, -1 where there is none.
    """
    side = SIDE // TOKEN
    letters, shapes = np.zeros((side**2, SLOTS), np.int64), np.zeros((side**2, 2), np.int64)
    offsets = np.zeros((side**2, SLOTS), np.float32)
    places, used = np.zeros((side**2, 3), np.float32), [0] * side**2
    edges, heights = np.zeros((side**2, 4), np.int64), np.full(side**2, -1, np.float32)
    kinds, colours = list(KINDS), list(COLOURS)
    for letter, x, y in sorted(picture.letters, key=lambda found: found[1]):
        row = min(side - 1, max(0, int(y // TOKEN)))
        for column in sorted({min(side - 1, max(0, int((x + by) // TOKEN))) for by in (-NEAR, NEAR)}):
            token = row * side + column
            if used[token] < SLOTS:
                letters[token, used[token]] = LETTERS.index(letter) + 1
                offsets[token, used[token]] = x / TOKEN - column
                used[token] += 1
    for shape in picture.shapes:
        x, y = shape.middle()
        token = int(y // TOKEN) * side + int(x // TOKEN)
        shapes[token] = kinds.index(shape.kind) + 1, colours.index(shape.colour) + 1
        places[token] = x % TOKEN / TOKEN, y % TOKEN / TOKEN, shape.radius / TOKEN
        edges[token] = [edge // 10 for edge in shape.box()]
    for (left, right), height in picture.bars:
        heights[side * (side - 1) + int(left // TOKEN) : side * (side - 1) + int(right // TOKEN) + 1] = height
    return letters, offsets, shapes, places, edges, heights
