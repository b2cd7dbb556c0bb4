"""What a request asks for, in one record for every dialect, and how a body becomes a pydantic model.

Every field of a body is honoured, refused with its path, or noted in ``warnings``; there is no fourth outcome. In
lenient mode (the server's default setting, or ``Prefer: handling=lenient``) a refused field is left out and noted.
"""

from __future__ import annotations

import dataclasses
import json
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from loqal.errors import ContextError
from loqal.runtime.reply_stream import ReplyStream
from loqal.runtime.runtime import Runtime
from loqal.server.shared.errors import FieldError
from loqal.types.messages import MediaPart, Message, TextPart
from loqal.types.reply_options import AnswerFormat, ReplyOptions
from loqal.types.sampling import SamplingParams

MAX_CHOICES = 64
_MAX_DEPTH = 100
_MAX_MEDIA = 64
_USUAL_TOKEN_CHARS, _LONGEST_TOKEN_CHARS = 8, 128
_MAX_ITEMS = 2_000_000  # of a body, counted by commas and brackets: objects weigh many times their text
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_MAX_LENIENT_ROUNDS = 100
_MAX_ERRORS = 100  # of one body that are looked at


class Body(BaseModel):
    """The base of every body: nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)  # built with the first request


AnyBody = TypeVar("AnyBody", bound=Body)


class GenerationRequest(Protocol):
    """What a dialect's ``parse`` gives: which model, how many replies, and how to start them."""

    @property
    def model(self) -> str:
        """A name the server has."""
        ...

    @property
    def num_replies(self) -> int:
        """How many replies will be written."""
        ...

    @property
    def num_media(self) -> int:
        """How many images and videos have to be decoded."""
        ...

    def begin(self, runtime: Runtime, client: str) -> list[ReplyStream]:
        """Hand it to the engine. Blocks while prompts are encoded. Raises LoqalError."""
        ...


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A conversation to be continued, whatever the dialect it came in."""

    model: str
    messages: tuple[Message, ...]
    params: SamplingParams = field(default_factory=SamplingParams)
    turn: ReplyOptions = field(default_factory=ReplyOptions)
    n: int = 1
    stream: bool = False
    priority: int = 0
    user: str = ""  # whom the caller asks for; users of one key share the machine evenly

    def __post_init__(self) -> None:
        if self.num_media > _MAX_MEDIA:
            raise FieldError("messages", f"They hold {self.num_media} images and videos; {_MAX_MEDIA} are the most.")

    @property
    def num_replies(self) -> int:
        """See GenerationRequest."""
        return self.n

    @property
    def num_media(self) -> int:
        """See GenerationRequest."""
        parts = [part for message in self.messages if not isinstance(message.content, str) for part in message.content]
        return sum(isinstance(part, MediaPart) for part in parts)

    def begin(self, runtime: Runtime, client: str) -> list[ReplyStream]:
        """See GenerationRequest. The seed of each reply is one more than that of the one before."""
        check_length(runtime, self.texts())
        return runtime.stream_choices(
            self.messages,
            self.params,
            n=self.n,
            turn=self.turn,
            priority=self.priority,
            client=f"{client}/{self.user}",
        )

    def texts(self) -> Iterator[str]:
        """Every text that the model would read, for ``check_length``."""
        for message in self.messages:
            parts = [TextPart(message.content)] if isinstance(message.content, str) else message.content
            yield from (part.text for part in parts if isinstance(part, TextPart))
            yield message.reasoning or ""
            for call in message.tool_calls:
                yield from (call.name, str(call.arguments))
        for tool in self.turn.tools:
            shown = (tool.name, tool.description or "", tool.parameters, tool.extra)
            yield from map(str, [tool.definition] if tool.definition else shown)


@dataclass(frozen=True, slots=True)
class RawRequest:
    """Prompts to be continued as they are, without a chat template; ``n`` times each."""

    model: str
    prompts: tuple[str | tuple[int, ...], ...]
    params: SamplingParams = field(default_factory=SamplingParams)
    n: int = 1
    answer: AnswerFormat | None = None
    stream: bool = False
    priority: int = 0
    user: str = ""

    @property
    def num_replies(self) -> int:
        """See GenerationRequest."""
        return self.n * len(self.prompts)

    @property
    def num_media(self) -> int:
        """See GenerationRequest."""
        return 0

    def begin(self, runtime: Runtime, client: str) -> list[ReplyStream]:
        """See GenerationRequest."""
        for prompt in self.prompts:
            check_length(runtime, [prompt] if isinstance(prompt, str) else [])
        return [
            runtime.stream_generate(
                prompt, params, answer=self.answer, priority=self.priority, client=f"{client}/{self.user}"
            )
            for prompt in self.prompts
            for params in _seeded(self.params, self.n)
        ]


def check_length(runtime: Runtime, texts: Iterable[str]) -> None:
    """Raise ContextError for texts that are far too long, before all of them is turned into tokens.

    Tokens of that many texts would take minutes and gigabytes. The beginning is enough to know, except where tokens
    are long, as in spaces.
    """
    start, total = "", 0
    enough = runtime.context_len * _USUAL_TOKEN_CHARS
    for text in texts:
        total += len(text)
        start += text[: max(0, enough - len(start))]
    if total <= enough:
        return
    num_tokens = len(runtime.tokenize(start))
    if num_tokens > runtime.context_len or total > runtime.context_len * _LONGEST_TOKEN_CHARS:
        raise ContextError(
            f"The prompt has more than {max(num_tokens, runtime.context_len):,} tokens and does not fit.",
            f"The context holds {runtime.context_len:,} tokens, the reply included.",
            "Shorten the prompt or load the model with a larger context_len.",
        )


def tokenized(runtime: Runtime, text: str, *, control: bool = False) -> list[int]:
    """Token ids of a text of bounded length. Blocks while it is read: never for the event loop. Raises ContextError."""
    check_length(runtime, [text])
    return runtime.tokenize(text, control=control)


def _seeded(params: SamplingParams, n: int) -> list[SamplingParams]:
    """The parameters of ``n`` replies, each with a seed one more than that of the one before."""
    if n == 1:
        return [params]
    first = secrets.randbits(48) if params.seed is None else params.seed
    return [dataclasses.replace(params, seed=first + index) for index in range(n)]


class Warnings:
    """What becomes of fields that are not simply honoured. One for each request."""

    def __init__(self, lenient: bool = False) -> None:
        self.lenient = lenient
        self.warnings: list[str] = []

    def warn(self, path: str, why: str) -> None:
        """Say that a field has no effect, and why that is fine."""
        self.warnings.append(f"{path}: {why}")

    def reject(self, path: str, why: str, fix: str = "") -> None:
        """Raise FieldError; in lenient mode say that the field was left out."""
        if not self.lenient:
            raise FieldError(path, why, fix)
        self.warnings.append(f"{path} was left out: {why}")


def read_body(kind: type[AnyBody], data: bytes, warnings: Warnings) -> AnyBody:
    """The body of a request. Raises FieldError with the path of what is wrong."""
    value = load_json(data)
    for _ in range(_MAX_LENIENT_ROUNDS):
        try:
            return kind.model_validate(value)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_ERRORS]
        meant = _meant([(_path(value, one), one) for one in found])
        unknown = [path for path, one in meant if one["type"] == "extra_forbidden"]
        if not warnings.lenient or len(unknown) < len(meant):
            raise _field_error([pair for pair in meant if pair[0] not in unknown] or meant)
        for name, path in {_joined(path): path for path in unknown}.items():
            _drop(value, path)
            warnings.reject(name, "It is not known.")
    raise FieldError("", "It has too many unknown fields.", "Leave them out.")


def load_json(data: bytes) -> Any:
    """The value of a JSON text, bounded in depth and in what it weighs in memory. Raises FieldError."""
    if sum(map(data.count, (b",", b"[", b"{"))) > _MAX_ITEMS:
        raise FieldError("", f"It has more than {_MAX_ITEMS:,} values.", "Send less at once.")
    try:
        value = json.loads(data, parse_constant=_no_constant)
    except RecursionError:
        raise FieldError("", f"It is nested more than {_MAX_DEPTH} deep.", "Send flatter JSON.") from None
    except ValueError as error:
        raise FieldError("", f"It is not JSON: {error}.", "Send a JSON object.") from None
    _check(value, check_texts=_SURROGATE.search(data) is not None)
    return value


def media_part(kind: Any, url: str, path: str, **bounds: Any) -> MediaPart:
    """An image or a video named by a URL, ``data:`` or ``http(s):``; a request opens no path. Raises FieldError."""
    if not url.lower().startswith(("data:", "http://", "https://")):
        raise FieldError(path, "It must be a data: URL or an http(s) URL.", "Send the file as a data: URL.")
    return MediaPart(kind, url, **bounds)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _check(value: Any, *, check_texts: bool) -> None:
    """Bound the depth; with ``check_texts`` also refuse texts that no encoding can hold."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise FieldError("", f"It is nested more than {_MAX_DEPTH} deep.", "Send flatter JSON.")
        if check_texts:
            for one in level:
                for text in (one, *one) if isinstance(one, dict) else (one,):
                    if isinstance(text, str) and not _is_encodable(text):
                        raise FieldError("", "A text holds half of a surrogate pair.", "Send valid Unicode.")
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below.extend(item for item in one.values() if check_texts or isinstance(item, (dict, list)))
            elif isinstance(one, list):
                below.extend(item for item in one if check_texts or isinstance(item, (dict, list)))
        level = below


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


Path = list[int | str]


def _path(value: Any, error: Any) -> Path:
    """Where the error of a body is. Between the steps pydantic puts names of alternatives, which may be keys too."""
    location = list(error["loc"])
    if location and error["type"] == "missing":
        return [*_steps(value, location[:-1])[1], location[-1]]
    return _steps(value, location)[1]


def _steps(value: Any, location: Path) -> tuple[bool, Path]:
    """The steps of a location that lead on, and whether the last one does; of several ways the one that leads there."""
    if not location:
        return True, []
    step, rest = location[0], location[1:]
    ways: list[tuple[bool, Path]] = []
    if (isinstance(value, dict) and step in value) or (isinstance(value, list) and step in range(len(value))):
        holder: Any = value
        arrives, path = _steps(holder[step], rest)
        ways.append((arrives, [step, *path]))
    if isinstance(step, str):
        arrives, path = _steps(value, rest)
        ways.append((arrives and bool(rest), path))
    return max(ways, key=lambda way: (way[0], len(way[1])), default=(False, []))


def _meant(located: Sequence[tuple[Path, Any]]) -> list[tuple[Path, Any]]:
    """The errors without those of alternatives that were not meant: of these, some other one reaches deeper."""
    paths = [path for path, _ in located]
    return [
        (path, one)
        for path, one in located
        if not any(len(other) > len(path) and other[: len(path)] == path for other in paths)
    ]


def _drop(value: Any, path: Path) -> None:
    for step in path[:-1]:
        value = value[step]
    del value[path[-1]]


def _joined(path: Path) -> str:
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _field_error(located: Sequence[tuple[Path, Any]]) -> FieldError:
    path, one = max(located, key=lambda pair: len(pair[0]))
    why = {"missing": "It is missing.", "extra_forbidden": "It is not known."}.get(one["type"], f"{one['msg']}.")
    return FieldError(_joined(path), why)


def check_range(path: str, value: float | None, low: float, high: float) -> None:
    """Raise FieldError for a number out of its range."""
    if value is not None and not low <= value <= high:
        raise FieldError(path, f"It is {value}; it must be from {low:,} to {high:,}.")
