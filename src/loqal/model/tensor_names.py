"""Tensor names: ours, those of safetensors and those of GGUF, with shape and conversion.

``entries(config)`` lists every tensor a model of that shape has. ``hf_options`` and ``gguf_options`` say in which ways
a checkpoint may store one of them; ``resolve`` matches them with the names a checkpoint really holds. Pure logic: no
array and no file is touched here. ``weights/convert.py`` implements the conversions named here.

Values follow the GGUF convention: norms multiply by the stored value, ``delta.a`` is -exp(A_log), and value heads are
in tiled order (value head j reads key head j mod num_key_heads).

Letters of the shapes: V vocabulary, H width, Q all query heads, K all key heads of attention, D head of attention,
C convolution channels, T taps, W all value heads of Gated DeltaNet, N their number, d one value head, F feed-forward,
E experts, I expert width, S shared expert width. In the vision tower: h width, f feed-forward, P values of a patch,
L positions, m patches of a merge group side by side, O width of the language model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from loqal.model.config import ModelConfig

Part = Literal["text", "head", "draft", "vision"]

Conversion = Literal[
    "plain",  # the bytes as they are, reshaped
    "plus_one",  # a zero-centred norm: 1 + w
    "tile_qkv",  # rows: value heads behind the queries and keys go from grouped to tiled order
    "tile_rows",  # rows: every row belongs to a value head
    "tile_columns",  # columns: every column belongs to a value head
    "decay",  # -exp(A_log), value heads tiled
    "split_gate",  # the first half of the rows of every expert
    "split_up",  # the second half of the rows of every expert
    "stack",  # one tensor per expert, stacked
    "concat_rows",  # tensors below each other
    "fused_query",  # rows of a fused query, key, value weight
    "fused_key",
    "fused_value",
    "join_temporal",  # one tensor per frame of a patch, interleaved into (channel, frame, row, column) order
]


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of the model.

    ``suffix`` is the name inside its layer, ``hf`` and ``gguf`` are its usual names in the two vocabularies. ``f32``
    says that it is kept in F32 however the file stores it (norms, biases, convolution taps, routers: small, and used
    element by element).
    """

    name: str
    suffix: str
    hf: str
    gguf: str
    shape: tuple[int, ...]
    conversion: Conversion  # from the safetensors form
    part: Part
    f32: bool
    hf_shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Option:
    """One way a checkpoint may store a tensor: the source names, the shape each must have, and the conversion."""

    conversion: Conversion
    sources: tuple[str, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    hf: str
    gguf: str
    shape: str
    conversion: Conversion = "plain"
    f32: bool = False
    hf_shape: str = ""


_ENDS = (
    _Row("embed", "embed_tokens.weight", "token_embd.weight", "V H"),
    _Row("output_norm", "norm.weight", "output_norm.weight", "H", "plus_one"),
)
_HEAD = _Row("output", "lm_head.weight", "output.weight", "V H")

_NORMS = (
    _Row("input_norm", "input_layernorm.weight", "attn_norm.weight", "H", "plus_one"),
    _Row("post_norm", "post_attention_layernorm.weight", "post_attention_norm.weight", "H", "plus_one"),
)
_DELTA = (
    _Row("delta.qkv", "linear_attn.in_proj_qkv.weight", "attn_qkv.weight", "C H", "tile_qkv"),
    _Row("delta.z", "linear_attn.in_proj_z.weight", "attn_gate.weight", "W H", "tile_rows"),
    _Row("delta.beta", "linear_attn.in_proj_b.weight", "ssm_beta.weight", "N H", "tile_rows"),
    _Row("delta.alpha", "linear_attn.in_proj_a.weight", "ssm_alpha.weight", "N H", "tile_rows"),
    _Row("delta.conv", "linear_attn.conv1d.weight", "ssm_conv1d.weight", "C T", "tile_qkv", f32=True, hf_shape="C 1 T"),
    _Row("delta.a", "linear_attn.A_log", "ssm_a", "N", "decay"),
    _Row("delta.dt_bias", "linear_attn.dt_bias", "ssm_dt.bias", "N", "tile_rows"),
    _Row("delta.norm", "linear_attn.norm.weight", "ssm_norm.weight", "d"),
    _Row("delta.out", "linear_attn.out_proj.weight", "ssm_out.weight", "H W", "tile_columns"),
)
_ATTENTION = (
    _Row("attention.query", "self_attn.q_proj.weight", "attn_q.weight", "2Q H"),
    _Row("attention.key", "self_attn.k_proj.weight", "attn_k.weight", "K H"),
    _Row("attention.value", "self_attn.v_proj.weight", "attn_v.weight", "K H"),
    _Row("attention.query_norm", "self_attn.q_norm.weight", "attn_q_norm.weight", "D", "plus_one"),
    _Row("attention.key_norm", "self_attn.k_norm.weight", "attn_k_norm.weight", "D", "plus_one"),
    _Row("attention.out", "self_attn.o_proj.weight", "attn_output.weight", "H Q"),
)
_MLP = (
    _Row("mlp.gate", "mlp.gate_proj.weight", "ffn_gate.weight", "F H"),
    _Row("mlp.up", "mlp.up_proj.weight", "ffn_up.weight", "F H"),
    _Row("mlp.down", "mlp.down_proj.weight", "ffn_down.weight", "H F"),
)
_EXPERTS = (
    _Row("experts.router", "mlp.gate.weight", "ffn_gate_inp.weight", "E H", f32=True),
    _Row("experts.gate", "mlp.experts.gate_up_proj", "ffn_gate_exps.weight", "E I H", "split_gate", hf_shape="E 2I H"),
    _Row("experts.up", "mlp.experts.gate_up_proj", "ffn_up_exps.weight", "E I H", "split_up", hf_shape="E 2I H"),
    _Row("experts.down", "mlp.experts.down_proj", "ffn_down_exps.weight", "E H I"),
    _Row("experts.shared_router", "mlp.shared_expert_gate.weight", "ffn_gate_inp_shexp.weight", "1 H", f32=True),
    _Row("experts.shared_gate", "mlp.shared_expert.gate_proj.weight", "ffn_gate_shexp.weight", "S H"),
    _Row("experts.shared_up", "mlp.shared_expert.up_proj.weight", "ffn_up_shexp.weight", "S H"),
    _Row("experts.shared_down", "mlp.shared_expert.down_proj.weight", "ffn_down_shexp.weight", "H S"),
)
_DRAFT = (
    _Row("embed_norm", "pre_fc_norm_embedding.weight", "nextn.enorm.weight", "H", "plus_one"),
    _Row("hidden_norm", "pre_fc_norm_hidden.weight", "nextn.hnorm.weight", "H", "plus_one"),
    _Row("project", "fc.weight", "nextn.eh_proj.weight", "H 2H"),
    _Row("output_norm", "norm.weight", "nextn.shared_head_norm.weight", "H", "plus_one"),
)
_PATCH = (
    _Row("patch_embed.weight", "patch_embed.proj.weight", "v.patch_embd.weight", "h P", hf_shape="h c t p p"),
    _Row("patch_embed.bias", "patch_embed.proj.bias", "v.patch_embd.bias", "h"),
    _Row("position_embed", "pos_embed.weight", "v.position_embd.weight", "L h", f32=True),
)
_VISION_LAYER = (
    _Row("norm1.weight", "norm1.weight", "ln1.weight", "h"),
    _Row("norm1.bias", "norm1.bias", "ln1.bias", "h"),
    _Row("norm2.weight", "norm2.weight", "ln2.weight", "h"),
    _Row("norm2.bias", "norm2.bias", "ln2.bias", "h"),
    _Row("qkv.weight", "attn.qkv.weight", "attn_qkv.weight", "3h h"),
    _Row("qkv.bias", "attn.qkv.bias", "attn_qkv.bias", "3h"),
    _Row("proj.weight", "attn.proj.weight", "attn_out.weight", "h h"),
    _Row("proj.bias", "attn.proj.bias", "attn_out.bias", "h"),
    _Row("fc1.weight", "mlp.linear_fc1.weight", "ffn_up.weight", "f h"),
    _Row("fc1.bias", "mlp.linear_fc1.bias", "ffn_up.bias", "f"),
    _Row("fc2.weight", "mlp.linear_fc2.weight", "ffn_down.weight", "h f"),
    _Row("fc2.bias", "mlp.linear_fc2.bias", "ffn_down.bias", "h"),
)
_MERGER = (
    _Row("merger.norm.weight", "merger.norm.weight", "v.post_ln.weight", "h"),
    _Row("merger.norm.bias", "merger.norm.bias", "v.post_ln.bias", "h"),
    _Row("merger.fc1.weight", "merger.linear_fc1.weight", "mm.0.weight", "m m"),
    _Row("merger.fc1.bias", "merger.linear_fc1.bias", "mm.0.bias", "m"),
    _Row("merger.fc2.weight", "merger.linear_fc2.weight", "mm.2.weight", "O m"),
    _Row("merger.fc2.bias", "merger.linear_fc2.bias", "mm.2.bias", "O"),
)

# Where the monolithic files of Ollama keep the safetensors spelling of the vision tower behind a short prefix.
_OLLAMA_VISION = {
    "v.patch_embd.": "v.patch_embed.",
    "v.position_embd.": "v.pos_embed.",
    "v.post_ln.": "v.merger.norm.",
    "mm.0.": "v.merger.linear_fc1.",
    "mm.2.": "v.merger.linear_fc2.",
    ".ffn_up.": ".mlp.linear_fc1.",
    ".ffn_down.": ".mlp.linear_fc2.",
    ".ln1.": ".norm1.",
    ".ln2.": ".norm2.",
}

# The published safetensors spelling. Text-only checkpoints use ``model.`` for the text.
PREFIXES: dict[Part, str] = {"text": "model.language_model.", "head": "", "draft": "mtp.", "vision": "model.visual."}

# Prefixes each declared architecture may use, the usual one first.
HF_PREFIXES: dict[str, dict[Part, tuple[str, ...]]] = {
    "conditional": {
        "text": ("model.language_model.",),
        "head": ("",),
        "draft": ("mtp.", "model.mtp."),
        "vision": ("model.visual.", "visual."),
    },
    "causal": {
        "text": ("model.", "model.language_model."),
        "head": ("",),
        "draft": ("mtp.", "model.mtp."),
        "vision": ("model.visual.", "visual."),
    },
}


def _dims(config: ModelConfig) -> dict[str, int]:
    dims = {
        "1": 1,
        "V": config.vocab_size,
        "H": config.width,
        "2H": 2 * config.width,
        "Q": config.num_heads * config.head_dim,
        "2Q": 2 * config.num_heads * config.head_dim,
        "K": config.num_kv_heads * config.head_dim,
        "D": config.head_dim,
        "C": config.conv_channels,
        "T": config.conv_width,
        "W": config.value_width,
        "N": config.num_value_heads,
        "d": config.value_dim,
    }
    if config.ffn_width is not None:
        dims["F"] = config.ffn_width
    if config.experts is not None:
        experts = config.experts
        dims |= {"E": experts.num_experts, "I": experts.expert_width, "2I": 2 * experts.expert_width}
        dims["S"] = experts.shared_width
    if config.vision is not None:
        vision = config.vision
        dims |= {"h": vision.width, "3h": 3 * vision.width, "f": vision.ffn_width, "L": vision.num_positions}
        dims |= {"c": 3, "t": vision.temporal_patch_size, "p": vision.patch_size}
        dims["P"] = 3 * vision.temporal_patch_size * vision.patch_size**2
        dims |= {"m": vision.merge_size**2 * vision.width, "O": vision.out_width}
    return dims


def entries(config: ModelConfig) -> tuple[Entry, ...]:
    """Every tensor of a model of this shape, in the order of the network."""
    dims = _dims(config)

    def shape(symbols: str) -> tuple[int, ...]:
        return tuple(dims[symbol] for symbol in symbols.split())

    def make(rows: Iterable[_Row], part: Part, ours: str, hf: str, gguf: str) -> Iterator[Entry]:
        for row in rows:
            f32 = row.f32 or " " not in row.shape
            yield Entry(
                name=ours + row.name,
                suffix=row.name,
                hf=PREFIXES[part] + hf + row.hf,
                gguf=gguf + row.gguf,
                shape=shape(row.shape),
                conversion=row.conversion,
                part=part,
                f32=f32,
                hf_shape=shape(row.hf_shape or row.shape),
            )

    ffn = _EXPERTS if config.experts is not None else _MLP
    found = [*make(_ENDS, "text", "", "", "")]
    if not config.tied_head:
        found += make([_HEAD], "head", "", "", "")
    for n, mixer in enumerate(config.layers):
        rows = _NORMS + (_DELTA if mixer == "delta" else _ATTENTION) + ffn
        found += make(rows, "text", f"layers.{n}.", f"layers.{n}.", f"blk.{n}.")
    if config.num_draft_layers:
        block = f"blk.{len(config.layers)}."
        found += make(_DRAFT, "draft", "draft.", "", block)
        found += make(_NORMS + _ATTENTION + ffn, "draft", "draft.layer.", "layers.0.", block)
    if config.vision is not None:
        found += make(_PATCH, "vision", "vision.", "", "")
        for n in range(config.vision.depth):
            found += make(_VISION_LAYER, "vision", f"vision.layers.{n}.", f"blocks.{n}.", f"v.blk.{n}.")
        found += make(_MERGER, "vision", "vision.", "", "")
    return tuple(found)


def hf_options(entry: Entry, config: ModelConfig, architecture: str) -> Iterator[Option]:
    """The ways a safetensors checkpoint may store ``entry``.

    ``architecture`` is a key of ``HF_PREFIXES``. Experts are fused in one tensor or stored one by one.
    """
    tail = entry.hf.removeprefix(PREFIXES[entry.part])
    for prefix in HF_PREFIXES[architecture][entry.part]:
        yield Option(entry.conversion, (prefix + tail,), entry.hf_shape)
        if entry.suffix in _PER_EXPERT and config.experts is not None:
            stem = prefix + tail.rpartition(".")[0]
            yield _stacked(entry, config, stem)


_PER_EXPERT = {"experts.gate": "gate_proj", "experts.up": "up_proj", "experts.down": "down_proj"}


def _stacked(entry: Entry, config: ModelConfig, stem: str) -> Option:
    assert config.experts is not None
    leaf = _PER_EXPERT[entry.suffix]
    names = tuple(f"{stem}.{e}.{leaf}.weight" for e in range(config.experts.num_experts))
    return Option("stack", names, entry.shape[1:])


def gguf_options(entry: Entry, config: ModelConfig) -> Iterator[Option]:
    """The ways a GGUF checkpoint may store ``entry``: llama.cpp's, then those of older Ollama files."""
    name, shape = entry.gguf, entry.shape
    if entry.name == "vision.patch_embed.weight":
        h, c, t, p, _ = entry.hf_shape
        yield Option("join_temporal", (name, f"{name}.1"), (h, c, p, p))
        yield Option("plain", ("v.patch_embed.weight",), (h * c, t, p, p))
        return
    yield Option("plain", (name,), shape)
    if entry.name.endswith("delta.dt_bias"):
        yield Option("plain", (name.removesuffix(".bias"),), shape)
    block = name.rpartition("blk.")[2].partition(".")[0]
    if entry.suffix in _FUSED_ATTENTION:
        fused = (2 * config.num_heads + 2 * config.num_kv_heads) * config.head_dim
        yield Option(_FUSED_ATTENTION[entry.suffix], (f"blk.{block}.attn_qkv.weight",), (fused, config.width))
    if entry.suffix in _FUSED_EXPERTS and config.experts is not None:
        e, i, width = shape
        yield Option(_FUSED_EXPERTS[entry.suffix], (f"blk.{block}.ffn_gate_up_exps.weight",), (e, 2 * i, width))
    if entry.part == "draft":
        yield from _ollama_draft(entry, config)
    if entry.part == "vision":
        yield from _ollama_vision(entry)


_FUSED_ATTENTION: dict[str, Conversion] = {
    "attention.query": "fused_query",
    "attention.key": "fused_key",
    "attention.value": "fused_value",
}
_FUSED_EXPERTS: dict[str, Conversion] = {"experts.gate": "split_gate", "experts.up": "split_up"}


def _ollama_draft(entry: Entry, config: ModelConfig) -> Iterator[Option]:
    """Older Ollama files keep the head under ``mtp.`` with zero-centred norms and one tensor per expert."""
    conversion: Conversion = "plus_one" if entry.conversion == "plus_one" else "plain"
    if not entry.name.startswith("draft.layer."):
        yield Option(conversion, (entry.hf,), entry.shape)
        return
    leaf = entry.gguf.split(".", 2)[2]
    yield Option(conversion, (f"mtp.layers.0.{leaf}",), entry.shape)
    if entry.suffix in _PER_EXPERT:
        yield _stacked(entry, config, "mtp.layers.0.mlp.experts")


def _ollama_vision(entry: Entry) -> Iterator[Option]:
    name = entry.gguf
    for theirs, ollama in _OLLAMA_VISION.items():
        name = name.replace(theirs, ollama)
    yield Option("plain", (name,), entry.shape)
    if ".qkv." in entry.name:
        rows = (entry.shape[0] // 3, *entry.shape[1:])
        yield Option("concat_rows", tuple(name.replace("attn_qkv", f"attn_{part}") for part in "qkv"), rows)


@dataclass(frozen=True, slots=True)
class Resolution:
    """What ``resolve`` found: an option for each tensor, tensors with no source, and unused names."""

    found: dict[str, tuple[Entry, Option]]
    missing: tuple[Entry, ...]
    unused: tuple[str, ...]


def resolve(
    wanted: Iterable[Entry], names: Collection[str], options: Callable[[Entry], Iterable[Option]]
) -> Resolution:
    """Choose for every wanted tensor the first option whose sources are all among ``names``."""
    found: dict[str, tuple[Entry, Option]] = {}
    missing: list[Entry] = []
    used: set[str] = set()
    for entry in wanted:
        option = next((o for o in options(entry) if all(source in names for source in o.sources)), None)
        if option is None:
            missing.append(entry)
        else:
            found[entry.name] = (entry, option)
            used.update(option.sources)
    return Resolution(found, tuple(missing), tuple(name for name in names if name not in used))
