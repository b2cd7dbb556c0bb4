"""The trainable twin of the Qwen 3.5 network, small and written for a CPU; its eyes are in ``eyes``.

It is the published architecture without shortcuts (zero-centred norms, gated full attention with partial rotary
positions, Gated DeltaNet, a draft head), so that the exported file runs on any runtime of the family. The recurrence
is computed in chunks: inside a chunk by one triangular solve, from chunk to chunk by the state.

Parameter names are those of the published checkpoints behind ``model.language_model.`` (trunk) and ``mtp.`` (draft
head); ``Network.named_arrays`` hands them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from eyes import Eyes, EyeShape, Reader


@dataclass(frozen=True)
class Shape:
    """Sizes of the demonstration model. Head sizes are the family's own."""

    vocab_size: int
    width: int = 256
    num_layers: int = 6
    interval: int = 3  # every interval-th layer is full attention
    num_heads: int = 2
    num_kv_heads: int = 1
    head_dim: int = 256
    num_key_heads: int = 1
    num_value_heads: int = 2
    delta_dim: int = 128  # keys and values of a delta head
    ffn_width: int = 512
    conv_width: int = 4
    rotary_dim: int = 64
    theta: float = 1e7
    eps: float = 1e-6
    context_len: int = 4096

    def is_attention(self, layer: int) -> bool:
        """Whether the trunk layer ``layer`` is full attention."""
        return (layer + 1) % self.interval == 0

    def as_dict(self) -> dict[str, int | float]:
        """All fields, for a checkpoint."""
        return asdict(self)


class Packing:
    """What keeps the sequences of one row apart. ``segments`` numbers them, ``[B, T]``."""

    def __init__(self, segments: Tensor) -> None:
        same = segments[:, :, None] == segments[:, None, :]
        self.mask = same.tril()[:, None]
        self.reaches = [
            functional.pad((segments[:, back:] == segments[:, :-back]).float(), (back, 0))[..., None]
            for back in (1, 2, 3)
        ]
        # exp(-60) empties the state without the infinities that would spoil differences of sums.
        self.forget = -60 * (1 - self.reaches[0])


def causal_chunks(q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, beta: Tensor, chunk: int = 64) -> Tensor:
    """The gated delta rule from a zero state, chunk by chunk.

    Args:
        q, k: ``[B, Hk, T, D]``, normalised, ``q`` scaled. v: ``[B, Hk, R, T, D]``, R value heads per key head.
        log_decay, beta: ``[B, Hk, R, T]``. ``T`` is a multiple of ``chunk`` or shorter than it.

    Returns:
        ``[B, Hk, R, T, D]``.
    """
    batch, heads, repeat, length, dim = v.shape
    size = min(chunk, length)
    count = length // size
    q, k = (x.reshape(batch, heads, 1, count, size, dim) for x in (q, k))
    v = v.reshape(batch, heads, repeat, count, size, dim)
    beta = beta.reshape(batch, heads, repeat, count, size, 1)
    total = log_decay.reshape(batch, heads, repeat, count, size).cumsum(-1)
    lower = torch.ones(size, size, dtype=torch.bool, device=q.device).tril()
    gap = (total[..., :, None] - total[..., None, :]).masked_fill(~lower, float("-inf"))
    decay = gap.exp()  # [..., i, j]: what is left of step j at step i
    transposed = k.transpose(-1, -2)
    system = (k @ transposed) * decay * beta  # its diagonal and upper half are not read by the solve
    grown = total.exp()[..., None]
    both = torch.linalg.solve_triangular(
        system, torch.cat([v * beta, k * (beta * grown)], -1), upper=False, unitriangular=True
    )
    values, reach = both.split(dim, -1)
    scores = (q @ transposed) * decay
    if count == 1:
        return (scores @ values).reshape(batch, heads, repeat, length, dim)
    queries = q * grown
    last = total[..., -1:]
    keys = (k * (last - total).exp()[..., None]).transpose(-1, -2)
    left = last.exp()[..., None]
    state = values.new_zeros(batch, heads, repeat, dim, dim)
    out = []
    for index in range(count):
        fresh = values[:, :, :, index] - reach[:, :, :, index] @ state
        out.append(queries[:, :, :, index] @ state + scores[:, :, :, index] @ fresh)
        state = state * left[:, :, :, index] + keys[:, :, :, index] @ fresh
    return torch.stack(out, 3).reshape(batch, heads, repeat, length, dim)


class Norm(nn.Module):
    """Zero-centred RMS norm: the stored weight is the distance from one."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """``[..., width]`` to the same shape."""
        return functional.rms_norm(x.float(), x.shape[-1:], 1 + self.weight, self.eps)


def linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear map without bias, as everywhere in the family."""
    return nn.Linear(inputs, outputs, bias=False)


class DeltaMixer(nn.Module):
    """Gated DeltaNet: short convolution, delta rule, normed and gated output."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        values = shape.num_value_heads * shape.delta_dim
        channels = 2 * shape.num_key_heads * shape.delta_dim + values
        self.in_proj_qkv = linear(shape.width, channels)
        self.in_proj_z = linear(shape.width, values)
        self.in_proj_b = linear(shape.width, shape.num_value_heads)
        self.in_proj_a = linear(shape.width, shape.num_value_heads)
        self.conv1d = nn.Conv1d(channels, channels, shape.conv_width, groups=channels, bias=False)
        # Half-lives from a few to a few hundred tokens at the start, as state-space models are usually begun.
        self.A_log = nn.Parameter(torch.empty(shape.num_value_heads).uniform_(1, 16).log())
        step = torch.empty(shape.num_value_heads).uniform_(np.log(1e-3), np.log(1e-1)).exp()
        self.dt_bias = nn.Parameter(step + torch.log(-torch.expm1(-step)))
        self.norm = nn.Module()
        self.norm.weight = nn.Parameter(torch.ones(shape.delta_dim))
        self.out_proj = linear(values, shape.width)

    def forward(self, x: Tensor, packing: Packing | None) -> Tensor:
        """``[B, T, width]`` to the same shape."""
        shape = self.shape
        batch, length, _ = x.shape
        heads, dim = shape.num_key_heads, shape.delta_dim
        repeat = shape.num_value_heads // heads
        taps = self.conv1d.weight[:, 0]
        padded = functional.pad(self.in_proj_qkv(x), (0, 0, shape.conv_width - 1, 0))
        mixed = padded[:, -length:] * taps[:, -1]
        for back in range(1, shape.conv_width):
            earlier = padded[:, shape.conv_width - 1 - back :][:, :length] * taps[:, -1 - back]
            mixed = mixed + (earlier if packing is None else earlier * packing.reaches[back - 1])
        q, k, v = functional.silu(mixed).split([heads * dim, heads * dim, heads * repeat * dim], -1)
        q, k = (part.reshape(batch, length, heads, dim).transpose(1, 2) for part in (q, k))
        q = q * torch.rsqrt(q.square().sum(-1, keepdim=True) + 1e-6) * dim**-0.5
        k = k * torch.rsqrt(k.square().sum(-1, keepdim=True) + 1e-6)
        v = v.reshape(batch, length, heads, repeat, dim).permute(0, 2, 3, 1, 4)
        beta = self.in_proj_b(x).sigmoid().reshape(batch, length, heads, repeat).permute(0, 2, 3, 1)
        log_decay = -self.A_log.exp() * functional.softplus(self.in_proj_a(x) + self.dt_bias)
        if packing is not None:
            log_decay = log_decay + packing.forget
        log_decay = log_decay.reshape(batch, length, heads, repeat).permute(0, 2, 3, 1)
        with torch.autocast(x.device.type, enabled=False):  # the state adds up over many tokens
            parts = (part.float() for part in (q, k, v, log_decay, beta))
            out = causal_chunks(*parts).permute(0, 3, 1, 2, 4)
        out = functional.rms_norm(out, (dim,), self.norm.weight, shape.eps)
        gate = functional.silu(self.in_proj_z(x)).reshape(batch, length, heads, repeat, dim)
        return self.out_proj((out * gate).reshape(batch, length, -1))


class AttentionMixer(nn.Module):
    """Causal attention with normed queries and keys, partial rotary positions and a sigmoid output gate."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.q_proj = linear(shape.width, shape.num_heads * 2 * shape.head_dim)
        self.k_proj = linear(shape.width, shape.num_kv_heads * shape.head_dim)
        self.v_proj = linear(shape.width, shape.num_kv_heads * shape.head_dim)
        self.o_proj = linear(shape.num_heads * shape.head_dim, shape.width)
        self.q_norm = Norm(shape.head_dim, shape.eps)
        self.k_norm = Norm(shape.head_dim, shape.eps)

    def turn(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of positions ``[B, T, 3]``: time, row and column take turns over the frequencies."""
        index = torch.arange(self.shape.rotary_dim // 2, device=positions.device)
        axis = torch.where((index % 3 == 1) & (index <= 31), 1, torch.where((index % 3 == 2) & (index <= 29), 2, 0))
        rate = self.shape.theta ** (-2 * index.double() / self.shape.rotary_dim)
        angles = (positions[..., axis] * rate)[:, None]
        return angles.cos().float(), angles.sin().float()

    def rotate(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        """Turn the first ``rotary_dim`` dimensions of ``[B, H, T, head_dim]`` in pairs ``(i, i + rotary_dim / 2)``."""
        half = self.shape.rotary_dim // 2
        first, second, rest = x.split([half, half, self.shape.head_dim - 2 * half], -1)
        cos, sin = turn
        return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], -1)

    def forward(self, x: Tensor, packing: Packing | None, positions: Tensor | None) -> Tensor:
        """``[B, T, width]`` to the same shape; without ``positions`` the text counts from 0."""
        shape = self.shape
        batch, length, _ = x.shape
        q, gate = self.q_proj(x).reshape(batch, length, shape.num_heads, 2, shape.head_dim).unbind(3)
        k = self.k_proj(x).reshape(batch, length, shape.num_kv_heads, shape.head_dim)
        v = self.v_proj(x).reshape(batch, length, shape.num_kv_heads, shape.head_dim).transpose(1, 2)
        if positions is None:
            positions = torch.arange(length, device=x.device)[None, :, None].expand(1, length, 3)
        turn = self.turn(positions[:, :length])
        q = self.rotate(self.q_norm(q).transpose(1, 2), turn)
        k = self.rotate(self.k_norm(k).transpose(1, 2), turn)
        mask = None if packing is None else packing.mask[:, :, :length, :length]
        mixed = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=shape.num_heads > shape.num_kv_heads
        )
        return self.o_proj((mixed.transpose(1, 2) * gate.sigmoid()).reshape(batch, length, -1))


class FeedForward(nn.Module):
    """The gated feed-forward network."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = linear(shape.width, shape.ffn_width)
        self.up_proj = linear(shape.width, shape.ffn_width)
        self.down_proj = linear(shape.ffn_width, shape.width)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, width]`` to the same shape."""
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """A decoder layer: mixer and feed-forward network, each behind a norm and beside the residual."""

    def __init__(self, shape: Shape, attention: bool) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.width, shape.eps)
        self.post_attention_layernorm = Norm(shape.width, shape.eps)
        if attention:
            self.self_attn = AttentionMixer(shape)
        else:
            self.linear_attn = DeltaMixer(shape)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, packing: Packing | None, positions: Tensor | None = None) -> Tensor:
        """``[B, T, width]`` to the same shape."""
        normed = self.input_layernorm(x)
        if hasattr(self, "self_attn"):
            x = x + self.self_attn(normed, packing, positions)
        else:
            x = x + self.linear_attn(normed, packing)
        return x + self.mlp(self.post_attention_layernorm(x))


class DraftHead(nn.Module):
    """Multi-token prediction: the hidden state of a position and its next token give the token after that."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.pre_fc_norm_embedding = Norm(shape.width, shape.eps)
        self.pre_fc_norm_hidden = Norm(shape.width, shape.eps)
        self.fc = linear(2 * shape.width, shape.width)
        self.layers = nn.ModuleList([Layer(shape, attention=True)])
        self.norm = Norm(shape.width, shape.eps)

    def forward(self, hidden: Tensor, following: Tensor, packing: Packing | None, positions: Tensor | None) -> Tensor:
        """From hidden rows after the final norm and the embeddings of the following tokens, both ``[B, T, width]``."""
        both = torch.cat([self.pre_fc_norm_embedding(following), self.pre_fc_norm_hidden(hidden)], -1)
        return self.norm(self.layers[0](self.fc(both), packing, positions))


@dataclass(frozen=True)
class Seen:
    """Pictures of one grid: their patches ``[B, N, 1536]``, and where their rows go in the flattened batch."""

    patches: Tensor
    rows: int
    columns: int
    places: Tensor


class Network(nn.Module):
    """The whole model with tied embeddings, a draft head and, if it has them, eyes."""

    def __init__(self, shape: Shape, seed: int = 0, eyes: EyeShape | None = None) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.width)
        self.layers = nn.ModuleList(Layer(shape, shape.is_attention(index)) for index in range(shape.num_layers))
        self.norm = Norm(shape.width, shape.eps)
        self.mtp = DraftHead(shape)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                small = name.endswith(("o_proj.weight", "out_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.02 if small or "embed" in name else weight.shape[1] ** -0.5)
            elif name.endswith("conv1d.weight"):
                nn.init.uniform_(weight, -0.5, 0.5)
        self.visual = Eyes(eyes) if eyes is not None else None
        self.reader = Reader(eyes.out_width) if eyes is not None else None  # for training alone, not exported

    def look(self, seen: Sequence[Seen]) -> list[Tensor]:
        """What the eyes make of pictures: rows ``[B, N / 4, width]``."""
        assert self.visual is not None or not seen
        return [self.visual(some.patches, some.rows, some.columns) for some in seen]

    def embed(self, ids: Tensor, seen: Sequence[Seen] = (), looked: Sequence[Tensor] | None = None) -> Tensor:
        """What the trunk reads, ``[B, T, width]``, with the rows of pictures in their places."""
        x = self.embed_tokens(ids)
        for some, rows in zip(seen, self.look(seen) if looked is None else looked, strict=True):
            x = x.flatten(0, 1).index_copy(0, some.places, rows.to(x.dtype).flatten(0, 1)).view_as(x)
        return x

    def trunk(self, x: Tensor, packing: Packing | None = None, positions: Tensor | None = None) -> Tensor:
        """Hidden states ``[B, T, width]`` after the final norm, for token ids ``[B, T]`` or what ``embed`` made."""
        x = x if x.is_floating_point() else self.embed_tokens(x)
        for layer in self.layers:
            x = layer(x, packing, positions)
        return self.norm(x)

    def draft(
        self, hidden: Tensor, x: Tensor, packing: Packing | None = None, positions: Tensor | None = None
    ) -> Tensor:
        """Draft states: entry ``p`` of ``[B, T - 1, width]`` has seen token ``p + 1`` and predicts token ``p + 2``."""
        x = x if x.is_floating_point() else self.embed_tokens(x)
        return self.mtp(hidden[:, :-1], x[:, 1:], packing, positions)

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits ``[..., vocab_size]`` through the tied embedding."""
        return functional.linear(hidden, self.embed_tokens.weight)

    def named_arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Every weight under its name in the published checkpoints, float32."""
        heads = {"mtp.": "", "visual.": "model."}
        return {
            next((front for head, front in heads.items() if name.startswith(head)), "model.language_model.") + name: (
                weight.detach().float().numpy()
            )
            for name, weight in self.named_parameters()
            if not name.startswith("reader.")
        }
