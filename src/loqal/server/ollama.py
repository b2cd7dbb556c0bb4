"""Ollama's API. What its requests become is here; what its replies look like, in ``ollama_writer``."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from .. import __version__
from ..errors import ContextError
from ..reply_stream import ReplyStream
from ..runtime import Runtime
from ..turns import AnswerFormat, JsonSchema, Thinking, Tool, Turn
from ..types import MediaPart, Message, Part, Reply, SamplingParams, TextPart, ToolCall
from . import ollama_answers as answers
from . import ollama_fields as fields
from .conversation import Result, decoded, in_call_order, said, settled, size_of
from .dialect import Call, Dialect, Route, Work
from .errors import FieldError, RefusedError
from .fields import review
from .ollama_writer import NEVER, LineWriter, described, error, idle, listed
from .request import Ask, ChatRequest, Notes, RawRequest
from .streaming import JsonLines
from .thinking import BUDGETS

# Requests -------------------------------------------------------------------------------------------------------------


def _conversation(messages: Sequence[fields.Message]) -> list[Message]:
    """The messages of /api/chat; results of tools in the order of their calls."""
    found: list[Message] = []
    results: list[Result] = []
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        if isinstance(message, fields.ToolMessage):
            results.append(_result(message, path, found, results))
            continue
        found += in_call_order(found, results)
        results = []
        if isinstance(message, fields.AssistantMessage):
            calls = [
                ToolCall(call.function.name, call.function.arguments, call.id or f"call {number}")
                for number, call in enumerate(message.tool_calls or ())
            ]
            found.append(Message("assistant", message.content or "", message.thinking or "", calls))
        else:
            images = message.images if isinstance(message, fields.UserMessage) else None
            found.append(Message(message.role, _content(message.content, images, path)))
    return [*found, *in_call_order(found, results)]


def _result(message: fields.ToolMessage, path: str, before: Sequence[Message], earlier: Sequence[Result]) -> Result:
    """A tool's answer with the id of its call: the one it names, or the first open call of its tool."""
    content = Message("tool", _content(message.content, message.images, path))
    if message.tool_call_id is not None:
        return Result(f"{path}.tool_call_id", message.tool_call_id, content)
    calls = next((found.tool_calls for found in reversed(before) if found.role == "assistant"), ())
    answered = {result.call_id for result in earlier}
    for call in calls:
        if call.id not in answered and message.tool_name in (None, call.name):
            return Result(f"{path}.tool_name", str(call.id), content)
    raise FieldError(
        f"{path}.tool_name",
        "Before it stands no call without a result that it could answer.",
        "Send the assistant's turn with its calls before their results.",
    )


def _prompted(body: fields.OllamaGenerateBody, before: Sequence[Message]) -> list[Message]:
    """The messages of /api/generate after those of an earlier conversation."""
    user = Message("user", _content(body.prompt, body.images, ""))
    if body.system is None:
        return [*before, user]
    rest = [message for message in before if message.role != "system"]
    return [Message("system", body.system), *rest, user]


def _content(text: str | None, images: Sequence[str] | None, path: str) -> str | list[Part]:
    if not images:
        return text or ""
    parts: list[Part] = [
        MediaPart("image", decoded(image, f"{path}.images[{index}]".lstrip("."))) for index, image in enumerate(images)
    ]
    return [*parts, TextPart(text or "")]


def _sampling(body: fields.WriteBody) -> SamplingParams:
    options = body.options or fields.Options()
    limit = options.num_predict
    return SamplingParams(
        max_tokens=limit if limit is not None and limit > 0 else None,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        presence_penalty=options.presence_penalty,
        frequency_penalty=options.frequency_penalty,
        repetition_penalty=options.repeat_penalty,
        seed=options.seed,
        stop=tuple(options.stop or ()),
        logprobs=(body.top_logprobs or 0) if body.logprobs or body.top_logprobs else None,
    )


def _turn(body: fields.WriteBody) -> Turn:
    return Turn(
        tools=tuple(_tool(tool.function) for tool in body.tools or ())
        if isinstance(body, fields.OllamaChatBody)
        else (),
        thinking=_thinking(body.think),
        answer=_answer(body.format),
        prefill=isinstance(body, fields.OllamaChatBody) and _is_assistant(body.messages),
    )


def _is_assistant(messages: Sequence[fields.Message]) -> bool:
    return bool(messages) and isinstance(messages[-1], fields.AssistantMessage)


def _tool(function: fields.Function) -> Tool:
    return Tool(function.name, function.description, function.parameters, bool(function.strict))


def _thinking(think: bool | str | None) -> Thinking:
    return Thinking(True, BUDGETS[think]) if isinstance(think, str) else Thinking(think)


def _answer(form: str | dict[str, Any] | None) -> AnswerFormat | None:
    if form is None or form == "":
        return None
    if form == "json":
        return JsonSchema()
    if isinstance(form, str):
        raise FieldError("format", f"It is {form!r}.", "Give json, or the JSON schema of the answer as an object.")
    return JsonSchema(form)


@dataclass(frozen=True, slots=True)
class Bounded:
    """A request whose prompt and reply together must fit ``context_len`` tokens."""

    asked: ChatRequest | RawRequest
    context_len: int

    @property
    def model(self) -> str:
        """See Ask."""
        return self.asked.model

    @property
    def num_replies(self) -> int:
        """See Ask."""
        return 1

    @property
    def num_media(self) -> int:
        """See Ask."""
        return self.asked.num_media

    def begin(self, runtime: Runtime, client: str) -> list[ReplyStream]:
        """See Ask."""
        if self.context_len >= runtime.context_len:
            return self.asked.begin(runtime, client)
        num_prompt = len(self._prompt_ids(runtime))
        room = self.context_len - num_prompt
        if room < 1:
            raise ContextError(
                f"The prompt has {num_prompt:,} tokens.",
                f"num_ctx of {self.context_len:,} leaves no room for a reply.",
                "Raise num_ctx, or shorten the conversation.",
            )
        params = self.asked.params
        most = room if params.max_tokens is None else min(room, params.max_tokens)
        bounded = dataclasses.replace(self.asked, params=dataclasses.replace(params, max_tokens=most))
        return bounded.begin(runtime, client)

    def _prompt_ids(self, runtime: Runtime) -> Sequence[int]:
        if isinstance(self.asked, ChatRequest):
            return runtime.render(self.asked.messages, turn=self.asked.turn).token_ids
        return runtime.tokenize(str(self.asked.prompts[0]), control=True)


def parse_chat(body: fields.OllamaChatBody, notes: Notes) -> ChatRequest:
    """What a conversation asks for. Raises FieldError."""
    review(body, notes)
    messages = settled(_conversation(body.messages), "messages", notes)
    return ChatRequest(body.model, messages, _sampling(body), _turn(body), stream=body.stream)


def parse_generate(
    body: fields.OllamaGenerateBody, notes: Notes, before: Sequence[Message] = ()
) -> ChatRequest | RawRequest:
    """What a prompt asks for, after an earlier conversation. Raises FieldError."""
    review(body, notes)
    if not body.raw:
        messages = tuple(_prompted(body, before))
        return ChatRequest(body.model, messages, _sampling(body), _turn(body), stream=body.stream)
    for name in ("system", "images", "think", "format", "context"):
        if getattr(body, name) not in (None, "", False):
            notes.refuse(name, "A raw prompt is read as it is.", "Leave raw out, or write it into the prompt.")
    return RawRequest(body.model, (body.prompt,), _sampling(body), stream=body.stream)


# Routes ---------------------------------------------------------------------------------------------------------------


async def chat(call: Call, body: fields.OllamaChatBody) -> Response:
    """Continue a conversation."""
    if not body.messages:
        return await _touch(call, body, chats=True)
    return await _write(call, body, parse_chat(body, call.notes), chats=True)


async def generate(call: Call, body: fields.OllamaGenerateBody) -> Response:
    """Answer or continue a prompt."""
    if not body.prompt and not body.images:
        return await _touch(call, body, chats=False)
    asked = parse_generate(body, call.notes, _recalled(call, body.context) if body.context else ())
    return await _write(call, body, asked, chats=False)


def bounded(asked: ChatRequest | RawRequest, options: fields.Options | None) -> Ask:
    """The same within the limit of ``num_ctx``."""
    if options is None or options.num_ctx is None:
        return asked
    return Bounded(asked, options.num_ctx)


def _recalled(call: Call, context: Sequence[int]) -> Sequence[Message]:
    found = call.kept.get(call.client.name, _context_key(context))
    if not isinstance(found, tuple):
        raise FieldError(
            "context", "No conversation with these tokens is known here any more.", "Send it to /api/chat as messages."
        )
    return found


def _context_key(context: Sequence[int]) -> str:
    return f"context {hashlib.sha256(json.dumps(list(context)).encode()).hexdigest()}"


async def _write(call: Call, body: fields.WriteBody, asked: ChatRequest | RawRequest, *, chats: bool) -> Response:
    started = time.perf_counter_ns()

    def writer(work: Work) -> LineWriter:
        conversation = () if chats or not isinstance(asked, ChatRequest) else asked.messages
        return LineWriter(
            body.model,
            chats=chats,
            spell=work.runtime.token_bytes,
            elapsed_ns=lambda: time.perf_counter_ns() - started,
            load_ns=work.load_ns,
            context=(lambda reply: _remembered(call, work, conversation, reply)) if conversation else None,
            warnings=call.notes.warnings,
        )

    ask = bounded(call.recalled(asked) if isinstance(asked, ChatRequest) else asked, body.options)
    if body.stream:
        return await call.stream(ask, writer, JsonLines)
    return call.json((await call.written(ask, writer)).whole)


def _remembered(call: Call, work: Work, conversation: Sequence[Message], reply: Reply) -> list[int]:
    """The tokens by which a later request may follow this conversation."""
    context = [*work.streams[0].prompt_ids, *reply.token_ids]
    messages = (*conversation, said(reply))
    call.kept.put(call.client.name, _context_key(context), messages, size_of(messages))
    return context


async def _touch(call: Call, body: fields.WriteBody, *, chats: bool) -> Response:
    """A request without a prompt loads its model, or unloads it with ``keep_alive`` 0 and a key that may."""
    if str(body.keep_alive).rstrip("smh") in ("0", "0.0"):
        if "manage" not in call.client.scopes:
            raise RefusedError("permission", "This key unloads no models.", "It lacks the scope manage.", "Use one.")
        await call.pool.unload(body.model)
        return call.json(idle(body.model, chats=chats, reason="unload", now=time.time()))
    review(body, call.notes)
    async with call.model(body.model):
        return call.json(idle(body.model, chats=chats, reason="load", now=time.time()))


async def embed(call: Call, body: fields.OllamaEmbedBody) -> Response:
    """Vectors of texts."""
    review(body, call.notes)
    started = time.perf_counter_ns()
    texts = [body.input] if isinstance(body.input, str) else body.input
    vectors, num_tokens = await _embedded(call, body, texts, "input")
    if body.dimensions is not None:
        if vectors and body.dimensions > len(vectors[0]):
            raise FieldError("dimensions", f"The model's vectors have {len(vectors[0]):,}.", "Ask for fewer.")
        vectors = [_shortened(vector, body.dimensions) for vector in vectors]
    answer = {"model": body.model, "embeddings": vectors, "prompt_eval_count": num_tokens}
    return call.json({**answer, "total_duration": time.perf_counter_ns() - started, "load_duration": 0})


async def embeddings(call: Call, body: fields.OllamaEmbeddingsBody) -> Response:
    """The vector of a text, in the older form."""
    review(body, call.notes)
    vectors, _ = await _embedded(call, body, [body.prompt], "prompt")
    return call.json({"embedding": vectors[0]})


async def _embedded(
    call: Call, body: fields.OllamaEmbedBody | fields.OllamaEmbeddingsBody, texts: Sequence[str], path: str
) -> tuple[list[list[float]], int]:
    """Vectors of texts, and how many tokens they had."""
    vectors: list[list[float]] = []
    num_tokens = 0
    async with call.model(body.model) as runtime:
        most = body.options.num_ctx if body.options else None
        for text in texts:
            ids = runtime.tokenize(text)
            if most is not None and len(ids) > most:
                raise ContextError(f"{path} has a text of {len(ids):,} tokens.", f"num_ctx is {most:,}.", "Raise it.")
            vectors.append((await asyncio.to_thread(runtime.embed, ids)).tolist())
            num_tokens += len(ids)
            await call.still_there()
    call.spend(num_tokens)
    return vectors, num_tokens


def _shortened(vector: Sequence[float], dimensions: int) -> list[float]:
    """The first numbers of a vector, scaled to length 1 again."""
    kept = vector[:dimensions]
    length = math.hypot(*kept) or 1.0
    return [value / length for value in kept]


async def tags(call: Call) -> Response:
    """The models that are served. Of those that are not loaded it says no more than their names."""
    loaded, created_s = call.pool.loaded(), call.pool.created
    infos = {name: loaded[name].info if name in loaded else None for name in call.pool.names()}
    return call.json({"models": [listed(name, info, created_s) for name, info in infos.items()]})


async def running(call: Call) -> Response:
    """The models that are loaded. How long they stay is the server's matter, so none has a time at which it goes."""
    models = [
        {
            **listed(name, runtime.info, call.pool.created),
            "expires_at": NEVER,
            "size_vram": 0,
            "context_length": runtime.context_len,
        }
        for name, runtime in call.pool.loaded().items()
    ]
    return call.json({"models": models})


async def show(call: Call, body: fields.OllamaShowBody) -> Response:
    """One model."""
    review(body, call.notes)
    async with call.model(body.model) as runtime:
        return call.json(described(runtime.info, call.pool.created))


async def version(call: Call) -> Response:
    """The version of the server."""
    return call.json({"version": __version__})


async def not_over_http(call: Call) -> Response:
    """Managing models: on the machine itself only."""
    raise RefusedError(
        "permission",
        f"{call.http.url.path} is not offered.",
        "No request changes which models are on this machine's disk.",
        "Use the command line there: loqal pull, loqal rm, loqal quantize.",
    )


_MANAGING = {"pull": "POST", "push": "POST", "create": "POST", "copy": "POST", "delete": "DELETE"}

DIALECT = Dialect(
    "ollama",
    (
        Route(
            "POST",
            "/api/chat",
            "infer",
            chat,
            "Continue a conversation",
            body=fields.OllamaChatBody,
            answer=answers.OllamaChatAnswer,
            event=answers.OllamaChatAnswer,
            wire=JsonLines,
        ),
        Route(
            "POST",
            "/api/generate",
            "infer",
            generate,
            "Answer or continue a prompt",
            body=fields.OllamaGenerateBody,
            answer=answers.OllamaGenerateAnswer,
            event=answers.OllamaGenerateAnswer,
            wire=JsonLines,
        ),
        Route(
            "POST",
            "/api/embed",
            "infer",
            embed,
            "Vectors of texts",
            body=fields.OllamaEmbedBody,
            answer=answers.OllamaEmbedAnswer,
        ),
        Route(
            "POST",
            "/api/embeddings",
            "infer",
            embeddings,
            "The vector of a text",
            body=fields.OllamaEmbeddingsBody,
            answer=answers.OllamaEmbeddingsAnswer,
        ),
        Route("GET", "/api/tags", "read", tags, "The models that are served", answer=answers.OllamaModelsAnswer),
        Route("GET", "/api/ps", "read", running, "The models that are loaded", answer=answers.OllamaModelsAnswer),
        Route(
            "POST", "/api/show", "read", show, "One model", body=fields.OllamaShowBody, answer=answers.OllamaShowAnswer
        ),
        Route("GET", "/api/version", "read", version, "The server's version", answer=answers.OllamaVersionAnswer),
        *(
            Route(method, f"/api/{verb}", "manage", not_over_http, "Not offered over HTTP")
            for verb, method in _MANAGING.items()
        ),
    ),
    error,
)
