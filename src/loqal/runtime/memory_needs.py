"""What a model takes in a fresh process, by the engine's own account: the one answer to whether it fits a machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from loqal.engine import memory_plan
from loqal.engine.memory_plan import MemoryPlan, default_kv_bits
from loqal.engine.options import CHUNK_TOKENS
from loqal.errors import LoqalError
from loqal.hub.local_models import LocalModel
from loqal.hub.recommend import CONTEXT_TOKENS
from loqal.model.config import ModelConfig
from loqal.model.tensor_names import entries
from loqal.ops.choose import choose_ops
from loqal.ops.interface import Ops
from loqal.weights.load import open_checkpoint

# Fitted to resident memory after loading on x86-64 Linux; docs/performance.md compares plans and processes.
_PROGRAM_BYTES = 62_000_000  # Python, NumPy, the kernels and their buffers
_ROW_BYTES, _MERGE_BYTES = 60, 400  # of the vocabulary: a token, and a merge with all that is indexed by it


def account(
    config: ModelConfig,
    ops: Ops,
    format_of: Callable[[str], str],
    *,
    num_merges: int,
    context_len: int,
    users: int,
    kv_bits: int,
    limit_bytes: int,
    image_bytes: int = 0,
    scale: float = 1.0,
) -> MemoryPlan:
    """What the engine will plan for a model in a fresh process. Nothing of it has to be on this machine.

    Args:
        format_of: the format of each tensor, by our names.
        num_merges: of the vocabulary, which takes memory too.
        users: sequences at the same time.
        image_bytes: for encoded pictures that are kept.
        scale: how much more or fewer bytes the weights have than their formats say.
    """
    plan = memory_plan.account(
        config,
        ops,
        format_of,
        context_len=context_len,
        kv_bits=kv_bits,
        max_sequences=users,
        chunk_tokens=CHUNK_TOKENS,
        process_bytes=_PROGRAM_BYTES + _ROW_BYTES * config.vocab_size + _MERGE_BYTES * num_merges,
        limit_bytes=limit_bytes,
        image_bytes=image_bytes if config.vision else 0,
    )
    return replace(plan, weight_bytes=int(plan.weight_bytes * scale))


def needed_bytes(
    config: ModelConfig, ops: Ops, format_of: Callable[[str], str], *, num_merges: int, scale: float = 1.0
) -> int:
    """Bytes with one sequence of ``CONTEXT_TOKENS``, no picture read."""
    context_len = min(CONTEXT_TOKENS, config.context_len)
    plan = account(
        config,
        ops,
        format_of,
        num_merges=num_merges,
        context_len=context_len,
        users=1,
        kv_bits=default_kv_bits(format_of("embed")),
        limit_bytes=0,
        scale=scale,
    )
    return plan.filled_bytes(1, context_len)


def of_local(model: LocalModel) -> int:
    """``needed_bytes`` of a model on this machine; of one that cannot be opened, the bytes of its files."""
    try:
        checkpoint = open_checkpoint(model.path, mmproj=model.mmproj)
    except LoqalError:
        return model.size_bytes
    with checkpoint:
        formats = {entry.name: checkpoint.tensors.format(entry.name) for entry in entries(checkpoint.config)}
        merges = checkpoint.metadata.get("tokenizer.ggml.merges", ())
        ops = choose_ops("cpu", threads=1)
        return needed_bytes(checkpoint.config, ops, formats.__getitem__, num_merges=len(merges))
