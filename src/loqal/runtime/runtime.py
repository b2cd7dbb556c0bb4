"""The Python API: loads models, and turns conversations and prompts into replies.

    with loqal.load("model.gguf") as model:
        reply = model.chat([{"role": "user", "content": "Hello!"}])

Text is turned into token ids here and ids into text again; the engine in between knows ids only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Unpack, cast

import numpy as np
import numpy.typing as npt

from loqal import settings
from loqal.chat.template.select import TemplateChoice, choose_template
from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.engine.engine import Engine
from loqal.engine.event_stream import EventStream
from loqal.engine.memory_plan import MemoryPlan
from loqal.engine.sequence import Sequence as EngineSequence
from loqal.errors import RequestError
from loqal.media.fetch import Policy
from loqal.ops.interface import FloatArray
from loqal.runtime import assembly, cache_report
from loqal.runtime.media_encoder import MediaEncoder, make_preparer
from loqal.runtime.media_encoder import describe as describe_item
from loqal.runtime.model_info import ModelInfo, describe
from loqal.runtime.open_model import open_model, tokenizer_of
from loqal.runtime.prompts import MessageLike, Prepared, Prompts, as_reply_options, shown
from loqal.runtime.reply_stream import ReplyStream
from loqal.types.messages import MediaInfo, MediaPart
from loqal.types.reply import Rendered, Reply, TokenEvent, TokenLogprobs
from loqal.types.reply_options import AnswerFormat, ChatArguments, ReplyArguments, ReplyOptions
from loqal.types.sampling import SamplingParams
from loqal.weights.load import Checkpoint

MAX_CHOICES = 64
"""Most replies to one prompt."""


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    mmproj: str | os.PathLike[str] | None = None,
    allow_urls: bool = False,
    allow_paths: bool = True,
    **given: Unpack[settings.SettingsDict],
) -> Runtime:
    """Load a model.

    Args:
        model: a file, a folder, or a known name; None loads the small model that comes with loqal.
        mmproj: the separate vision tower of a GGUF model.
        allow_urls: whether images and videos may be fetched from the network.
        allow_paths: whether images and videos may be files of this machine.
        **given: settings, such as ``context_len`` and ``threads``; see ``loqal.settings.Settings`` and
            docs/settings.md. One that is None or absent is taken from the environment (``LOQAL_THREADS``, ...).

    Raises:
        CheckpointError: the model cannot be used.
        RequestError: there is no such setting, or its value is out of range.
        CapacityError: the memory does not suffice.
        InstallationError: the installation is incomplete.
    """
    started = time.perf_counter()
    chosen = settings.resolve(given, os.environ)
    checkpoint = open_model(model, mmproj)
    try:
        return Runtime(checkpoint, chosen, started, Policy(paths=allow_paths, urls=allow_urls))
    except BaseException:
        checkpoint.close()
        raise


def inspect(model: str | os.PathLike[str] | None = None, *, mmproj: str | os.PathLike[str] | None = None) -> ModelInfo:
    """Describe a model without reading its weights. Arguments and errors as in ``load``."""
    checkpoint = open_model(model, mmproj)
    try:
        tokenizer = tokenizer_of(checkpoint)
        return _describe(checkpoint, tokenizer, _template(checkpoint, tokenizer))
    finally:
        checkpoint.close()


def plan(
    model: str | os.PathLike[str] | None = None,
    *,
    mmproj: str | os.PathLike[str] | None = None,
    **given: Unpack[settings.SettingsDict],
) -> MemoryPlan:
    """The memory a model would take, computed without loading it. Arguments and errors as in ``load``.

    >>> loqal.plan(context_len=1024).context_len
    1024
    """
    chosen = settings.resolve(given, os.environ)
    checkpoint = open_model(model, mmproj)
    try:
        return assembly.plan(checkpoint, chosen)
    finally:
        checkpoint.close()


def media_info(
    part: MediaPart, model: str | os.PathLike[str] | None = None, *, mmproj: str | os.PathLike[str] | None = None
) -> MediaInfo:
    """Size and token count of an image or a video, by the rules of a checkpoint or of the published models.

    Reads headers only. Raises RequestError, MediaError, and CheckpointError as ``load`` does.
    """
    if model is None:
        return describe_item(make_preparer(None, {}, Policy()).prepare(part))
    checkpoint = open_model(model, mmproj)
    try:
        return describe_item(make_preparer(checkpoint.config.vision, checkpoint.metadata, Policy()).prepare(part))
    finally:
        checkpoint.close()


class Runtime:
    """A loaded model, created by ``load``. Thread-safe; closing it frees its memory.

    Attributes:
        info: what was loaded.
        context_len: maximum number of tokens of prompt and reply together.
        plan: its memory plan.
        load_ms: how long loading took.
    """

    def __init__(
        self, checkpoint: Checkpoint, chosen: settings.Settings, started: float, policy: Policy | None = None
    ) -> None:
        self._checkpoint: Checkpoint | None = checkpoint
        self._tokenizer = tokenizer_of(checkpoint)
        template = _template(checkpoint, self._tokenizer)
        self._end_ids = frozenset(checkpoint.eos_token_ids) | self._tokenizer.eos_ids
        self.info = _describe(checkpoint, self._tokenizer, template)
        padding_ids = self._tokenizer.padding_ids(checkpoint.config.vocab_size)
        self._engine: Engine | None
        self._engine, self.plan, tower = assembly.assemble(checkpoint, chosen, padding_ids)
        self.context_len = self.plan.context_len
        self._preparer = make_preparer(checkpoint.config.vision, checkpoint.metadata, policy or Policy())
        room_bytes = self.plan.picture_bytes
        self._media_encoder = MediaEncoder(tower, self._preparer, self._tokenizer, chosen.media_cache_bytes, room_bytes)
        self._prompts = Prompts(
            self._tokenizer,
            template,
            self._media_encoder,
            context_len=self.context_len,
            end_ids=self._end_ids,
            size=self.info.size_label,
            file_values=_file_values(checkpoint),
        )
        self.load_ms = (time.perf_counter() - started) * 1e3

    # Requests -------------------------------------------------------------------------------------------------------

    def chat(
        self,
        messages: Iterable[MessageLike],
        params: SamplingParams | None = None,
        **arguments: Unpack[ChatArguments],
    ) -> Reply:
        """The whole reply to a conversation. Arguments and errors as in ``stream_chat``."""
        return self.stream_chat(messages, params, **arguments).finish()

    def stream_chat(
        self,
        messages: Iterable[MessageLike],
        params: SamplingParams | None = None,
        **arguments: Unpack[ChatArguments],
    ) -> ReplyStream:
        """The reply to a conversation, streamed.

        Args:
            messages: Message objects, or dicts with the same keys.
            params: sampling parameters; those that are None follow the model's card.
            **arguments: ``options``, ``think``, ``tools``, ``priority`` and ``client``, see
                ``loqal.types.reply_options.ChatArguments``.

        Raises:
            RequestError: a message or parameter is not understood or out of range.
            ContextError: the conversation does not fit the context.
        """
        return self.stream_choices(messages, params, n=1, **arguments)[0]

    def render(self, messages: Iterable[MessageLike], **arguments: Unpack[ReplyArguments]) -> Rendered:
        """The prompt of a conversation, and how much of it is in the prefix cache. Nothing is computed.

        Arguments and errors as in ``stream_chat``.

            >>> rendered = model.render([{"role": "user", "content": "Hi"}])
            >>> "".join(segment.text for segment in rendered.segments) == model.detokenize(
            ...     rendered.token_ids, skip_special=False)
            True
        """
        engine = self._open_engine()
        prepared = self._prompts.chat(messages, SamplingParams(seed=0), as_reply_options(**arguments))
        engine.check_length(len(prepared.prompt_ids), room=1)
        media = self._media_encoder.spans(prepared.prompt_ids, prepared.seen)
        sequence = EngineSequence(prepared.prompt_ids, prepared.params, media=media)
        report = engine.forecast(sequence)
        return Rendered(
            tuple(prepared.prompt_ids),
            shown(prepared.seen.segments),
            prepared.thinks,
            prepared.seen.infos,
            report.cached,
            cache_report.explain(report, prepared.prompt_ids, self._tokenizer),
            prepared.replays,
        )

    def media_info(self, part: MediaPart) -> MediaInfo:
        """Size and token count of an image or a video. Reads headers only. Raises RequestError and MediaError."""
        return describe_item(self._preparer.prepare(part))

    def generate(
        self, prompt: str | Sequence[int], params: SamplingParams | None = None, *, answer: AnswerFormat | None = None
    ) -> Reply:
        """The whole continuation of a raw prompt. Arguments and errors as in ``stream_generate``."""
        return self.stream_generate(prompt, params, answer=answer).finish()

    def stream_generate(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams | None = None,
        *,
        answer: AnswerFormat | None = None,
        priority: int = 0,
        client: str = "",
    ) -> ReplyStream:
        """The streamed continuation of a raw prompt, without a chat template.

        Args:
            prompt: token ids, or a text in which names of control tokens become these tokens.
            answer: the format that the continuation must have.
            priority, client: as in ``stream_chat``.

        Raises:
            RequestError: a token id or parameter is out of range, or the prompt is empty.
            ContextError: the prompt does not fit the context.
        """
        prepared = self._prompts.raw(prompt, params, answer)
        return self._start([dataclasses.replace(prepared, priority=priority, client=client)])[0]

    def choices(
        self,
        messages: Iterable[MessageLike],
        params: SamplingParams | None = None,
        *,
        n: int,
        **arguments: Unpack[ChatArguments],
    ) -> list[Reply]:
        """The whole replies. Arguments and errors as in ``stream_choices``.

        >>> replies = model.choices([{"role": "user", "content": "Hi"}], loqal.SamplingParams(max_tokens=4), n=2)
        >>> [reply.usage.cached_tokens > 0 for reply in replies]
        [False, True]
        """
        return [stream.finish() for stream in self.stream_choices(messages, params, n=n, **arguments)]

    def stream_choices(
        self,
        messages: Iterable[MessageLike],
        params: SamplingParams | None = None,
        *,
        n: int,
        priority: int = 0,
        client: str = "",
        **arguments: Unpack[ReplyArguments],
    ) -> list[ReplyStream]:
        """``n`` streamed replies to one conversation, whose prompt is read once.

        The seed of each is one more than that of the one before. Other arguments and errors as in ``stream_chat``.
        """
        first = self._prompts.chat(messages, params, as_reply_options(**arguments))
        prepared = _repeated(dataclasses.replace(first, priority=priority, client=client), n)
        sequences = [self._sequence(one) for one in prepared]
        return self._streams(prepared, sequences, self._open_engine().submit_all(sequences))

    def stream_completions(
        self,
        prompt: str | Sequence[int],
        params: SamplingParams | None = None,
        *,
        n: int,
        answer: AnswerFormat | None = None,
        priority: int = 0,
        client: str = "",
    ) -> list[ReplyStream]:
        """``n`` continuations of one raw prompt, which is read once, while they are written.

        Seeds as in ``stream_choices``; other arguments and errors as in ``stream_generate``.
        """
        first = self._prompts.raw(prompt, params, answer)
        return self._start(_repeated(dataclasses.replace(first, priority=priority, client=client), n))

    def batch(
        self, prompts: Iterable[str | Sequence[int] | Sequence[MessageLike]], params: SamplingParams | None = None
    ) -> list[Reply]:
        """Replies to many prompts, computed concurrently, in order.

        Args:
            prompts: conversations (see ``stream_chat``), and texts or token ids (see ``stream_generate``).

            >>> len(model.batch(["one", "two"], loqal.SamplingParams(max_tokens=3)))
            2
        """
        prepared = []
        for prompt in prompts:
            if isinstance(prompt, str) or all(isinstance(item, int) for item in prompt):
                prepared.append(self._prompts.raw(cast("str | Sequence[int]", prompt), params))
            else:
                prepared.append(self._prompts.chat(cast("Sequence[MessageLike]", prompt), params, ReplyOptions()))
        return [stream.finish() for stream in self._start(prepared)]

    def embed(
        self, texts: str | Sequence[int] | Sequence[str | Sequence[int]], *, pooling: Literal["mean", "last"] = "mean"
    ) -> FloatArray:
        """Vectors of texts or token ids, of length 1: -> float32 [N D], or [D] for a single one.

        Args:
            pooling: the mean of the network's last rows, or the last of them.

        Raises:
            RequestError: a text is empty or an id unknown.
            ContextError: a text does not fit the context.

            >>> model.embed(["a text", "another"]).shape == (2, model.embed("a text").shape[0])
            True
        """
        if pooling not in ("mean", "last"):
            raise RequestError(f"pooling is {pooling!r}.", "It must be 'mean' or 'last'.", "Choose one of these.")
        if not texts:
            raise RequestError("The input is empty.", "Embedding needs at least one text.", "Give a text or token ids.")
        if isinstance(texts, str) or all(isinstance(item, int) for item in texts):
            single: FloatArray = self.embed([cast("str | Sequence[int]", texts)], pooling=pooling)[0]
            return single
        engine = self._open_engine()
        rows = [engine.pooled(self._ids(cast("str | Sequence[int]", text)), mean=pooling == "mean") for text in texts]
        vectors: npt.NDArray[np.float64] = np.stack(rows).astype(np.float64)
        lengths = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
        unit: FloatArray = np.divide(vectors, np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
        return unit

    def score(
        self, prompt: str | Sequence[int], continuation: str | Sequence[int], *, top: int = 0
    ) -> tuple[TokenLogprobs, ...]:
        """Log probabilities of the tokens of a continuation after a prompt, each given those before it.

        The two are tokenized apart. ``top`` most likely alternatives of each are included. Raises RequestError and
        ContextError.

            >>> scores = model.score("one two", " three", top=1)
            >>> all(score.logprob <= score.top[0][1] < 0 for score in scores)
            True
        """
        before, after = self._ids(prompt), self._ids(continuation)
        return tuple(self._open_engine().logprobs(before + after, len(before), top))

    def logits(self, token_ids: Sequence[int]) -> FloatArray:
        """Logits after each of some tokens: -> float32 [T V]. Raises RequestError and ContextError."""
        return self._open_engine().logits(list(token_ids))

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        """Token ids of a text. With ``control``, names of control tokens in it become these tokens."""
        return self._tokenizer.encode_with_control(text) if control else self._tokenizer.encode_text(text)

    def detokenize(self, token_ids: Iterable[int], *, skip_special: bool = True) -> str:
        """The text of token ids. Raises RequestError for an id without a token."""
        return self._tokenizer.decode(token_ids, skip_special=skip_special)

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of a token, which need not be whole characters. Raises RequestError for an id without a token.

        >>> b"".join(map(model.token_bytes, model.tokenize("naïve"))).decode()
        'naïve'
        """
        return self._tokenizer.token_bytes(token_id)

    def warm_up_grammars(self) -> None:
        """Prepare structured output now rather than with the first request that uses it.

        With a full vocabulary that takes about a second, during which other threads wait, and 130 MB.
        """
        self._prompts.warm_up_grammars()

    def statistics(self) -> dict[str, float]:
        """Counters and current sizes by name: tokens, steps, captures, bytes of states, ...

        >>> model.statistics()["written_tokens"] >= 0
        True
        """
        found: dict[str, float] = self._open_engine().call(lambda loop: loop.statistics())
        return found

    # Lifetime -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Free the memory once open streams have ended. Closing twice does nothing."""
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
            raise RequestError("The model was closed.", "A closed model accepts no requests.", "Load it again.")
        return self._engine

    def _start(self, prepared: Sequence[Prepared]) -> list[ReplyStream]:
        """Submit requests to the engine together."""
        sequences = [self._sequence(one) for one in prepared]
        return self._streams(prepared, sequences, self._open_engine().submit_all(sequences))

    def _sequence(self, one: Prepared) -> EngineSequence:
        """A request as the engine takes it, its images and videos encoded."""
        self._open_engine().check_length(len(one.prompt_ids), room=1)  # before anything is encoded
        positions, media = self._media_encoder.encode(one.prompt_ids, one.seen)
        return EngineSequence(
            one.prompt_ids,
            one.params,
            set(one.params.stop_token_ids) | (set() if one.params.ignore_eos else self._end_ids),
            positions=positions,
            media=media,
            boundaries=cache_report.message_starts(one.prompt_ids, self._tokenizer),
            priority=one.priority,
            client=one.client,
            guide=one.guide(),
        )

    def _streams(
        self,
        prepared: Sequence[Prepared],
        sequences: Sequence[EngineSequence],
        events: Sequence[EventStream[TokenEvent]],
    ) -> list[ReplyStream]:
        """The replies of submitted sequences."""
        return [
            ReplyStream(
                own_events,
                one.parser(_call_stem(one)),
                sequence,
                load_ms=self.load_ms,
                started=one.started,
                explain=self._explain,
                media=one.seen.infos,
                replays=one.replays,
                warnings=one.warnings,
            )
            for one, sequence, own_events in zip(prepared, sequences, events, strict=True)
        ]

    def _ids(self, text: str | Sequence[int]) -> list[int]:
        return self._tokenizer.encode_text(text) if isinstance(text, str) else list(text)

    def _explain(self, sequence: EngineSequence) -> str | None:
        return cache_report.explain(sequence.cache, sequence.token_ids[: sequence.prompt_len], self._tokenizer)


def _repeated(first: Prepared, n: int) -> list[Prepared]:
    """The same request ``n`` times; the seed of each is one more than that of the one before. Raises RequestError."""
    if not 1 <= n <= MAX_CHOICES:
        raise RequestError(f"n is {n}.", f"It must be from 1 to {MAX_CHOICES}.", "Request a number in that range.")
    assert first.params.seed is not None
    seeds = [first.params.seed + index for index in range(n)]
    return [dataclasses.replace(first, params=dataclasses.replace(first.params, seed=seed)) for seed in seeds]


def _call_stem(one: Prepared) -> str:
    """The prefix of the ids of a reply's tool calls: a function of the request."""
    ids = np.array(one.prompt_ids, np.int32).tobytes()
    return f"call_{hashlib.blake2b(ids, digest_size=8, salt=str(one.params.seed).encode()[:16]).hexdigest()}_"


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
