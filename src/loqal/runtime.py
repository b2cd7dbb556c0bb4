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

from . import assembly, cache_words, limits, settings
from .chat import defaults
from .chat.choice import TemplateChoice, choose_template
from .chat.output_parser import OutputParser
from .chat.segments import ends_in_thinking
from .chat.tokenizer import Tokenizer
from .engine import sequence as engine_sequence
from .engine.engine import Engine
from .engine.memory_plan import MemoryPlan
from .errors import RequestError
from .locate import locate
from .messages import to_messages
from .model_info import ModelInfo, describe
from .ops.interface import FloatArray
from .reply_stream import Parser, PlainParser, ReplyStream
from .types import Message, Reply, SamplingParams
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
    drafts: str | None = None,
    memory_bytes: int | None = None,
    yarn: int | None = None,
    packed_file: str | None = None,
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
        drafts: "auto" (the default) guesses tokens ahead where that saves time, "off" never does; no answer changes.
        memory_bytes: most memory of the process, by default what the machine or its container has; see ``plan``.
        yarn: 2 or 4 stretches the positions for contexts beyond the model's own, up to 1,010,000 tokens. It holds for
            short texts too, which may come out a little worse.
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
    given |= {"drafts": drafts, "memory_bytes": memory_bytes, "yarn": yarn}
    chosen = settings.resolve(given, os.environ)
    checkpoint = open_checkpoint(locate(model), mmproj=None if mmproj is None else Path(mmproj))
    try:
        return Runtime(checkpoint, chosen, started)
    except BaseException:
        checkpoint.close()
        raise


def inspect(model: str | os.PathLike[str] | None = None, *, mmproj: str | os.PathLike[str] | None = None) -> ModelInfo:
    """Say what a model is without reading its weights. Arguments and errors as in ``load``."""
    checkpoint = open_checkpoint(locate(model), mmproj=None if mmproj is None else Path(mmproj))
    try:
        tokenizer = _tokenizer(checkpoint)
        return _describe(checkpoint, tokenizer, _template(checkpoint, tokenizer))
    finally:
        checkpoint.close()


def plan(model: str | os.PathLike[str] | None = None, **given: Any) -> MemoryPlan:
    """What a model would take of the memory, without loading it. Arguments and errors as in ``load``.

    >>> loqal.plan(context_len=1024).context_len
    1024
    """
    checkpoint = open_checkpoint(locate(model))
    try:
        return assembly.plan(checkpoint, settings.resolve(given, os.environ))
    finally:
        checkpoint.close()


class Runtime:
    """A loaded model. Made by ``load``; usable from several threads; close it to give its memory back.

    Attributes:
        info: what was loaded.
        context_len: most tokens of prompt and reply together.
        plan: what it takes of the memory.
        load_ms: how long loading took.
    """

    def __init__(self, checkpoint: Checkpoint, chosen: settings.Settings, started: float) -> None:
        self._checkpoint: Checkpoint | None = checkpoint
        self._tokenizer = _tokenizer(checkpoint)
        self._template = _template(checkpoint, self._tokenizer)
        self._end_ids = frozenset(checkpoint.eos_token_ids) | self._tokenizer.eos_ids
        self._file_values = _file_values(checkpoint)
        self.info = _describe(checkpoint, self._tokenizer, self._template)
        padding_ids = self._tokenizer.padding_ids(checkpoint.config.vocab_size)
        self._engine: Engine | None
        self._engine, self.plan = assembly.assemble(checkpoint, chosen, padding_ids)
        self.context_len = self.plan.context_len
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
        if any(segment.media is not None for segment in segments):
            raise RequestError(
                "The conversation holds an image or a video.", "This version reads text only.", "Send text only."
            )
        thinking = ends_in_thinking(segments)
        parser = OutputParser(self._tokenizer, thinking, tools or ())
        return self._stream(self._tokenizer.encode(segments), self._resolve(params, thinking=thinking), parser, started)

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

    def _resolve(self, params: SamplingParams | None, *, thinking: bool) -> SamplingParams:
        """The parameters with every default and a seed filled in."""
        params = params or SamplingParams()
        limits.check(params)
        if params.seed is None:
            params = dataclasses.replace(params, seed=int.from_bytes(os.urandom(_DRAWN_SEED_BYTES), "little"))
        return defaults.resolve(
            params, size=self.info.size_label, thinking=thinking, media=False, file_values=self._file_values
        )

    def _stream(self, prompt_ids: list[int], params: SamplingParams, parser: Parser, started: float) -> ReplyStream:
        end_ids = set(params.stop_token_ids) | (set() if params.ignore_eos else self._end_ids)
        starts = cache_words.message_starts(prompt_ids, self._tokenizer)
        sequence = engine_sequence.Sequence(prompt_ids, params, end_ids, boundaries=starts)
        events = self._open_engine().submit(sequence)
        return ReplyStream(events, parser, sequence, load_ms=self.load_ms, started=started, explain=self._explain)

    def _explain(self, sequence: engine_sequence.Sequence) -> str | None:
        return cache_words.explain(sequence.cache, sequence.token_ids[: sequence.prompt_len], self._tokenizer)


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
