"""The Python API, and the one place where all parts are put together.

    with loqal.load("model.gguf") as model:
        reply = model.chat([{"role": "user", "content": "Hello!"}])

Text is turned into token ids here and ids into text again; the engine in between knows ids only.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from . import cache_words, limits, settings
from .chat import defaults
from .chat.choice import TemplateChoice, choose_template
from .chat.output_parser import OutputParser
from .chat.segments import ends_in_thinking
from .chat.tokenizer import Tokenizer
from .engine import memory_plan
from .engine import sequence as engine_sequence
from .engine.engine import Engine
from .errors import CapacityError, RequestError
from .eyes import Eyes, Seen, make_preparer
from .eyes import describe as describe_item
from .locate import find
from .media.fetch import Policy
from .messages import to_messages
from .model.decoder import Decoder
from .model.vision import VisionTower
from .model_info import ModelInfo, describe
from .ops.choose import choose_ops
from .ops.interface import FloatArray
from .reply_stream import Parser, PlainParser, ReplyStream
from .state.store import StateStore
from .types import MediaInfo, MediaPart, Message, Reply, SamplingParams
from .weights.load import Checkpoint, open_checkpoint

_DRAWN_SEED_BYTES = 6  # a seed that every JSON reader keeps exactly

MessageLike = Message | Mapping[str, Any]


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    context_len: int | None = None,
    threads: int | None = None,
    backend: str | None = None,
    isa: str | None = None,
    kv_bits: int | None = None,
    max_sequences: int | None = None,
    cache_bytes: int | None = None,
    packed_file: str | None = None,
    media_cache_bytes: int | None = None,
    allow_urls: bool = False,
    mmproj: str | os.PathLike[str] | None = None,
) -> Runtime:
    """Load a model.

    Args:
        model: a file, a folder, or a known name; None loads the small model that comes with loqal.
        context_len: most tokens of prompt and reply together. By default the model's own context, or what a quarter of
            the memory can hold if that is less; memory is taken as the context fills, not before.
        threads: by default the cores this process may use.
        backend: "cpu" (the default) or "reference", the slow specification.
        isa: instruction set of the kernels, by default the best of this machine.
        packed_file: where to keep the packed weights for the next start ("auto": beside the model); by default nowhere.
        kv_bits: how keys and values are stored: 8 for half the memory, 16, or 32 (the default with F32 weights).
        max_sequences: most requests that compute at the same time; others wait for their turn.
        cache_bytes: most memory for states of earlier requests, from which later ones with the same beginning start;
            0 keeps none. By default a quarter of the memory, together with the states of what is running.
        media_cache_bytes: most memory for encoded pictures.
        allow_urls: whether images and videos may be fetched from the network.
        mmproj: the separate vision tower of a GGUF model.

    Settings that are None are taken from the environment (LOQAL_THREADS, ...) if they are there.

    Raises:
        CheckpointError: the model cannot be used.
        RequestError: a setting is out of range.
        CapacityError: the memory does not suffice.
        InstallationError: the installation is incomplete.
    """
    started = time.perf_counter()
    given = {"context_len": context_len, "threads": threads, "backend": backend, "isa": isa, "kv_bits": kv_bits}
    given |= {"packed_file": packed_file, "max_sequences": max_sequences, "cache_bytes": cache_bytes}
    given["media_cache_bytes"] = media_cache_bytes
    chosen = settings.resolve(given, os.environ)
    checkpoint = _open(model, mmproj)
    try:
        return Runtime(checkpoint, chosen, started, Policy(urls=allow_urls))
    except BaseException:
        checkpoint.close()
        raise


def inspect(model: str | os.PathLike[str] | None = None, *, mmproj: str | os.PathLike[str] | None = None) -> ModelInfo:
    """Say what a model is without reading its weights. Arguments and errors as in ``load``."""
    checkpoint = _open(model, mmproj)
    try:
        tokenizer = _tokenizer(checkpoint)
        return _describe(checkpoint, tokenizer, _template(checkpoint, tokenizer))
    finally:
        checkpoint.close()


def media_info(
    part: MediaPart, model: str | os.PathLike[str] | None = None, *, mmproj: str | os.PathLike[str] | None = None
) -> MediaInfo:
    """What an image or a video would become and cost: by the rules of a checkpoint, or of the published models.

    Reads headers only. Raises RequestError, MediaError, and CheckpointError as ``load`` does.
    """
    if model is None:
        return describe_item(make_preparer(None, {}, Policy()).prepare(part))
    checkpoint = _open(model, mmproj)
    try:
        return describe_item(make_preparer(checkpoint.config.vision, checkpoint.metadata, Policy()).prepare(part))
    finally:
        checkpoint.close()


def _open(model: str | os.PathLike[str] | None, mmproj: str | os.PathLike[str] | None) -> Checkpoint:
    found = find(model)
    return open_checkpoint(found.path, mmproj=found.mmproj if mmproj is None else Path(mmproj))


class Runtime:
    """A loaded model. Made by ``load``; usable from several threads; close it to give its memory back.

    Attributes:
        info: what was loaded.
        context_len: most tokens of prompt and reply together.
        load_ms: how long loading took.
    """

    def __init__(
        self, checkpoint: Checkpoint, chosen: settings.Settings, started: float, policy: Policy | None = None
    ) -> None:
        config = checkpoint.config
        self._checkpoint: Checkpoint | None = checkpoint
        self._tokenizer = _tokenizer(checkpoint)
        self._template = _template(checkpoint, self._tokenizer)
        self._end_ids = frozenset(checkpoint.eos_token_ids) | self._tokenizer.eos_ids
        self._file_values = _file_values(checkpoint)
        self.info = _describe(checkpoint, self._tokenizer, self._template)
        kv_bits = chosen.kv_bits or memory_plan.default_kv_bits(checkpoint.tensors.format("embed"))
        self.context_len = chosen.context_len or memory_plan.default_context_len(
            config, memory_plan.machine_bytes(), kv_bits
        )
        if self.context_len > config.context_len:
            raise RequestError(
                f"context_len is {self.context_len}.",
                f"The model was made for at most {config.context_len} tokens.",
                "Choose a context_len up to that.",
            )
        keep_packed = _packed_path(checkpoint, chosen.packed_file)
        ops = choose_ops(chosen.backend, isa=chosen.isa, threads=chosen.threads, keep_packed=keep_packed)
        # The specification touches all memory it is given, so it gets no more than it needs.
        cache_bytes = 0 if chosen.cache_bytes is None and chosen.backend == "reference" else chosen.cache_bytes
        room = memory_plan.plan_states(config, self.context_len, kv_bits, chosen.max_sequences, cache_bytes)
        try:
            decoder = Decoder(config, ops, checkpoint.tensors)
            tower = None if config.vision is None else VisionTower(config.vision, ops, checkpoint.tensors)
            ops.finish_loading()
            store = StateStore(
                ops,
                config,
                num_slots=room.num_slots,
                num_pages=room.num_pages,
                kv_bits=kv_bits,
                budget_bytes=room.budget_bytes,
            )
        except OSError as error:
            raise RequestError(
                f"The packed weights cannot be kept in {chosen.packed_file}.",
                f"{error.strerror or error}.",
                "Choose another packed_file, or none.",
            ) from error
        except MemoryError as error:
            raise CapacityError(
                f"{checkpoint.name} does not fit into the memory.",
                f"Its weights take {checkpoint.weight_bytes / 1e9:.1f} GB, a full context of {self.context_len} tokens "
                f"{self.context_len * memory_plan.kv_token_bytes(config, kv_bits) / 1e9:.1f} GB.",
                "Choose a smaller context_len, or a model of fewer or smaller weights.",
            ) from error
        self._preparer = make_preparer(config.vision, checkpoint.metadata, policy or Policy())
        self._eyes = Eyes(tower, self._preparer, self._tokenizer, chosen.media_cache_bytes)
        padding_ids = self._tokenizer.padding_ids(config.vocab_size)
        self._engine: Engine | None = Engine(
            decoder,
            store,
            ops,
            context_len=self.context_len,
            padding_ids=padding_ids,
            most_active=chosen.max_sequences,
            caches=cache_bytes != 0,
        )
        self.load_ms = (time.perf_counter() - started) * 1e3

    # Requests -------------------------------------------------------------------------------------------------------

    def chat(
        self,
        messages: Iterable[MessageLike],
        params: SamplingParams | None = None,
        *,
        think: bool | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> Reply:
        """The whole reply to a conversation. Arguments and errors as in ``stream_chat``."""
        return self.stream_chat(messages, params, think=think, tools=tools).finish()

    def stream_chat(
        self,
        messages: Iterable[MessageLike],
        params: SamplingParams | None = None,
        *,
        think: bool | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> ReplyStream:
        """The reply to a conversation while it is written.

        Args:
            messages: Message objects, or dicts with the same keys.
            params: what is None in it follows the model's card.
            think: whether to reason before answering; None as the model's template says.
            tools: definitions of functions the model may call.

        Raises:
            RequestError: a message or parameter is not understood or out of range.
            ContextError: the conversation does not fit the context.
        """
        started = time.perf_counter()
        thinks = self._template.traits.thinks if think is None else think
        segments = self._template.template.render(to_messages(messages), tools=tools, think=thinks)
        thinking = ends_in_thinking(segments)
        parser = OutputParser(self._tokenizer, thinking, tools or ())
        seen = self._eyes.look(segments)
        params = self._resolve(params, thinking=thinking, media=bool(seen.items))
        return self._stream(self._tokenizer.encode(seen.segments), params, parser, started, seen)

    def media_info(self, part: MediaPart) -> MediaInfo:
        """What an image or a video would become and cost. Reads headers only. Raises RequestError and MediaError."""
        return describe_item(self._preparer.prepare(part))

    def generate(self, prompt: str | Sequence[int], params: SamplingParams | None = None) -> Reply:
        """The whole continuation of a raw prompt. Arguments and errors as in ``stream_generate``."""
        return self.stream_generate(prompt, params).finish()

    def stream_generate(self, prompt: str | Sequence[int], params: SamplingParams | None = None) -> ReplyStream:
        """The continuation of a raw prompt while it is written, without a chat template.

        Args:
            prompt: token ids, or a text in which the names of control tokens stand for them.

        Raises:
            RequestError: a token id or parameter is out of range, or the prompt is empty.
            ContextError: the prompt does not fit the context.
        """
        started = time.perf_counter()
        prompt_ids = self._tokenizer.encode_with_control(prompt) if isinstance(prompt, str) else list(prompt)
        return self._stream(prompt_ids, self._resolve(params, thinking=False), PlainParser(self._tokenizer), started)

    def logits(self, token_ids: Sequence[int]) -> FloatArray:
        """Logits after each of some tokens: -> float32 [T V]. Raises RequestError and ContextError."""
        return self._open_engine().logits(list(token_ids))

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        """Token ids of a text. With ``control``, the names of control tokens in it stand for them."""
        return self._tokenizer.encode_with_control(text) if control else self._tokenizer.encode_text(text)

    def detokenize(self, token_ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of token ids. Raises RequestError for an id without a token."""
        return self._tokenizer.decode(token_ids, skip_special=skip_special)

    # Lifetime -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give the memory back, as soon as streams that are still open have ended. Closing twice does nothing."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        if self._checkpoint is not None:
            self._checkpoint.close()
            self._checkpoint = None

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_engine(self) -> Engine:
        if self._engine is None:
            raise RequestError("The model was closed.", "A closed model answers nothing.", "Load it again.")
        return self._engine

    def _resolve(self, params: SamplingParams | None, *, thinking: bool, media: bool = False) -> SamplingParams:
        """The parameters with every default and a seed filled in."""
        params = params or SamplingParams()
        limits.check(params)
        if params.seed is None:
            params = dataclasses.replace(params, seed=int.from_bytes(os.urandom(_DRAWN_SEED_BYTES), "little"))
        return defaults.resolve(
            params, size=self.info.size_label, thinking=thinking, media=media, file_values=self._file_values
        )

    def _stream(
        self, prompt_ids: list[int], params: SamplingParams, parser: Parser, started: float, seen: Seen | None = None
    ) -> ReplyStream:
        end_ids = set(params.stop_token_ids) | (set() if params.ignore_eos else self._end_ids)
        starts = cache_words.message_starts(prompt_ids, self._tokenizer)
        engine, seen = self._open_engine(), seen or Seen([], ())
        engine.check_length(len(prompt_ids), room=1)  # before anything is encoded
        positions, media = self._eyes.place(prompt_ids, seen)
        sequence = engine_sequence.Sequence(
            prompt_ids, params, end_ids, positions=positions, media=media, boundaries=starts
        )
        return ReplyStream(
            engine.submit(sequence),
            parser,
            sequence,
            load_ms=self.load_ms,
            started=started,
            explain=self._explain,
            media=seen.infos,
        )

    def _explain(self, sequence: engine_sequence.Sequence) -> str | None:
        return cache_words.explain(sequence.cache, sequence.token_ids[: sequence.prompt_len], self._tokenizer)


def _packed_path(checkpoint: Checkpoint, wanted: str | None) -> tuple[Path, Sequence[Path]] | None:
    if wanted is None:
        return None
    first = checkpoint.files[0]
    return (first.with_name(first.name + ".packed") if wanted == "auto" else Path(wanted)), checkpoint.files


def _tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    if checkpoint.tokenizer_json is not None:
        return Tokenizer.from_json(checkpoint.tokenizer_json)
    return Tokenizer.from_gguf(checkpoint.metadata)


def _template(checkpoint: Checkpoint, tokenizer: Tokenizer) -> TemplateChoice:
    return choose_template(checkpoint.chat_template, size=checkpoint.size_label, control_tokens=tokenizer.special_ids)


def _file_values(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Sampling values that the files state, under the files' names."""
    if checkpoint.format == "safetensors":
        return checkpoint.metadata.get("generation_config.json") or {}
    prefix = "general.sampling."
    return {key.removeprefix(prefix): value for key, value in checkpoint.metadata.items() if key.startswith(prefix)}


def _describe(checkpoint: Checkpoint, tokenizer: Tokenizer, template: TemplateChoice) -> ModelInfo:
    if checkpoint.chat_template is None:
        kind = "the family's (the file has none)"
    else:
        kind = "the family's" if template.traits.native else "the file's own"
    return describe(
        checkpoint,
        tokenizer=f"byte-level BPE, {tokenizer.vocab_len} tokens, {len(tokenizer.special_ids)} of them control tokens",
        template=kind,
        thinks_by_default=template.traits.thinks,
    )
