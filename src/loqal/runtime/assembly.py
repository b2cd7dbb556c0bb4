"""Assembly: a checkpoint and settings to an engine; first the memory plan, then weights, then states."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

from loqal.engine import memory_plan
from loqal.engine.engine import Engine
from loqal.engine.memory_plan import MemoryPlan
from loqal.engine.options import CHUNK_TOKENS, EngineOptions
from loqal.errors import CapacityError, RequestError
from loqal.model.config import ModelConfig, YarnConfig
from loqal.model.decoder import Decoder
from loqal.model.draft_head import DraftHead
from loqal.model.vision_tower import VisionTower
from loqal.ops.choose import choose_ops
from loqal.ops.interface import NUMERICS_VERSION, Ops
from loqal.runtime.media_encoder import largest_reading_bytes
from loqal.settings import Settings
from loqal.state.disk_cache import DiskCache
from loqal.state.store import StateStore
from loqal.system.file_digest import files_digest
from loqal.weights.load import Checkpoint

_PUBLISHED_CONTEXT, _PUBLISHED_YARN_CONTEXT = 262_144, 1_010_000  # without and with a YaRN factor of 4


def effective_config(config: ModelConfig, chosen: Settings) -> ModelConfig:
    """The shape of a model under the settings: YaRN, draft head or none.

    Raises RequestError when the context is longer than the positions reach, with both lengths.
    """
    if chosen.drafts == "off":
        config = dataclasses.replace(config, num_draft_layers=0)
    if chosen.yarn is not None:
        config = _stretched(config, chosen.yarn)
    if chosen.context_len is not None and chosen.context_len > config.context_len:
        hint = "" if config.rope.yarn else ", or extend the context with yarn=2 or yarn=4, which may reduce quality"
        raise RequestError(
            f"context_len is {chosen.context_len}.",
            f"The model supports at most {config.context_len} tokens.",
            f"Choose a context_len up to that{hint}.",
        )
    return config


def plan(checkpoint: Checkpoint, chosen: Settings) -> MemoryPlan:
    """The memory plan of a model. Raises CapacityError when it exceeds the limit."""
    config = effective_config(checkpoint.config, chosen)
    return _plan(checkpoint, config, chosen, choose_ops(chosen.backend, isa=chosen.isa, threads=1))


def assemble(
    checkpoint: Checkpoint, chosen: Settings, padding_ids: Sequence[int]
) -> tuple[Engine, MemoryPlan, VisionTower | None]:
    """Load a checkpoint and create its engine; returns it, the memory plan, and the vision tower if there is one.

    Args:
        padding_ids: rows of the vocabulary without a token.

    Raises:
        RequestError: a setting does not fit the model.
        CapacityError: the memory does not suffice.
    """
    config = effective_config(checkpoint.config, chosen)
    keep_packed = _packed_path(checkpoint, chosen.packed_file)
    ops = choose_ops(chosen.backend, isa=chosen.isa, threads=chosen.threads, keep_packed=keep_packed)
    plan = _plan(checkpoint, config, chosen, ops)
    try:
        decoder = Decoder(config, ops, checkpoint.tensors)
        tower = None if config.vision is None else VisionTower(config.vision, ops, checkpoint.tensors)
        draft_head = DraftHead(decoder, checkpoint.tensors) if config.num_draft_layers else None
        ops.finish_loading()
        store = StateStore(
            ops,
            config,
            num_slots=plan.num_slots,
            num_pages=plan.num_pages,
            kv_bits=_kv_bits(checkpoint, chosen),
            num_journals=chosen.max_sequences if chosen.drafts != "off" else 0,
            budget_bytes=plan.state_bytes,
            slot_group=plan.slot_group,
        )
    except OSError as error:
        raise RequestError(
            f"The packed file {chosen.packed_file} cannot be written.",
            f"{error.strerror or error}.",
            "Choose another packed_file, or leave the setting out.",
        ) from error
    except MemoryError as error:
        raise CapacityError(
            f"{checkpoint.name} does not fit in memory.",
            f"It needs {plan.total_bytes:,} bytes with a context of {plan.context_len:,} tokens.",
            "Choose a smaller context_len, a smaller model, or a lower quantization.",
        ) from error
    disk = None
    if chosen.cache_dir is not None and plan.cache_bytes > 0:
        disk = _disk_cache(Path(chosen.cache_dir), chosen.cache_dir_bytes, checkpoint, config, ops, plan)
    options = EngineOptions(
        context_len=plan.context_len,
        padding_ids=padding_ids,
        max_sequences=chosen.max_sequences,
        caches=plan.cache_bytes > 0,
    )
    return Engine(decoder, store, options, draft_head=draft_head, disk=disk), plan, tower


def _plan(checkpoint: Checkpoint, config: ModelConfig, chosen: Settings, ops: Ops) -> MemoryPlan:
    # The reference backend touches all memory it allocates, so it gets no prefix cache by default.
    cache_bytes = 0 if chosen.cache_bytes is None and chosen.backend == "reference" else chosen.cache_bytes
    return memory_plan.make_plan(
        config,
        ops,
        checkpoint.tensors.format,
        context_len=chosen.context_len,
        kv_bits=_kv_bits(checkpoint, chosen),
        max_sequences=chosen.max_sequences,
        chunk_tokens=CHUNK_TOKENS,
        cache_bytes=cache_bytes,
        limit_bytes=chosen.memory_bytes,
        drafts=chosen.drafts != "off",
        image_bytes=chosen.media_cache_bytes if config.vision is not None else 0,
        picture_bytes=largest_reading_bytes(config.vision, checkpoint.metadata),
    )


def _disk_cache(
    folder: Path, quota_bytes: int, checkpoint: Checkpoint, config: ModelConfig, ops: Ops, plan: MemoryPlan
) -> DiskCache:
    """The on-disk prefix cache of this checkpoint and this numerics version."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        identity = "\n".join(
            (
                f"numerics {NUMERICS_VERSION}",
                f"checkpoint {_digest(checkpoint.files, folder)}",
                f"layout {ops.state_layout}",
                f"bytes {plan.page_bytes} {plan.slot_bytes} draft {config.num_draft_layers}",
                f"positions {config.rope}",
            )
        )
        return DiskCache(folder, identity.encode(), quota_bytes)
    except OSError as error:
        raise RequestError(
            f"The cache directory {folder} cannot be used.",
            f"{error.strerror or error}.",
            "Choose another cache_dir, or leave the setting out.",
        ) from error


def _digest(files: Sequence[Path], folder: Path) -> str:
    """The digest of all bytes of a checkpoint, cached by names, sizes and times of the files."""
    known_path = folder / "checkpoints.json"
    stats = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    try:
        known = json.loads(known_path.read_text())
        if isinstance(known[key], str):
            return str(known[key])
    except (OSError, ValueError, KeyError, TypeError):
        known = {}
    digest = files_digest(files)
    known = known if isinstance(known, dict) else {}
    partial = known_path.with_name(f"{known_path.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(known | {key: digest}))
    os.replace(partial, known_path)
    return digest


def _kv_bits(checkpoint: Checkpoint, chosen: Settings) -> int:
    return chosen.kv_bits or memory_plan.default_kv_bits(checkpoint.tensors.format("embed"))


def _stretched(config: ModelConfig, factor: int) -> ModelConfig:
    """The model with YaRN positions, as the cards of the larger sizes describe it."""
    if config.rope.yarn is not None:
        raise RequestError(
            f"yarn is {factor}.",
            f"The file already applies YaRN with a factor of {config.rope.yarn.factor:g}.",
            "Leave the setting yarn out.",
        )
    native = config.context_len
    reach = native * factor
    if native == _PUBLISHED_CONTEXT:
        reach = min(reach, _PUBLISHED_YARN_CONTEXT)
    rope = dataclasses.replace(config.rope, yarn=YarnConfig(float(factor), native))
    return dataclasses.replace(config, rope=rope, context_len=reach)


def _packed_path(checkpoint: Checkpoint, wanted: str | None) -> tuple[Path, Sequence[Path]] | None:
    if wanted is None:
        return None
    first = checkpoint.files[0]
    return (first.with_name(first.name + ".packed") if wanted == "auto" else Path(wanted)), checkpoint.files
