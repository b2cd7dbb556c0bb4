"""Ollama's API: its routes. ``ollama_parse`` says what requests become, ``ollama_writer`` what replies look like."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Sequence

from starlette.responses import Response

from loqal import __version__
from loqal.errors import ContextError
from loqal.runtime.runtime import Runtime
from loqal.server.ollama import protocol as fields
from loqal.server.ollama import schema as answers
from loqal.server.ollama.format import NEVER, LineWriter, described, error, idle, listed
from loqal.server.ollama.parse import parse_chat, parse_generate
from loqal.server.service.request_context import Dialect, RequestContext, Route, RunningGeneration
from loqal.server.shared.conversation import said, size_of
from loqal.server.shared.errors import FieldError, RefusedError
from loqal.server.shared.fields import review
from loqal.server.shared.generation_request import ChatRequest, RawRequest, tokenized
from loqal.server.shared.streaming import JsonLines
from loqal.types.messages import Message
from loqal.types.reply import Reply


async def chat(call: RequestContext, body: fields.OllamaChatBody) -> Response:
    """Continue a conversation."""
    if not body.messages:
        return await _touch(call, body, chats=True)
    return await _write(call, body, parse_chat(body, call.warnings), chats=True)


async def generate(call: RequestContext, body: fields.OllamaGenerateBody) -> Response:
    """Answer or continue a prompt."""
    if not body.prompt and not body.images:
        return await _touch(call, body, chats=False)
    asked = parse_generate(body, call.warnings, _recalled(call, body.context) if body.context else ())
    return await _write(call, body, asked, chats=False)


def _recalled(call: RequestContext, context: Sequence[int]) -> Sequence[Message]:
    found = call.kept.get(call.client.name, _context_key(context))
    if not isinstance(found, tuple):
        raise FieldError(
            "context", "No conversation with these tokens is known here any more.", "Send it to /api/chat as messages."
        )
    return found


def _context_key(context: Sequence[int]) -> str:
    return f"context {hashlib.sha256(json.dumps(list(context)).encode()).hexdigest()}"


async def _write(
    call: RequestContext, body: fields.WriteBody, asked: ChatRequest | RawRequest, *, chats: bool
) -> Response:
    started = time.perf_counter_ns()

    def writer(work: RunningGeneration) -> LineWriter:
        conversation = () if chats or not isinstance(asked, ChatRequest) else asked.messages
        return LineWriter(
            body.model,
            chats=chats,
            spell=work.runtime.token_bytes,
            elapsed_ns=lambda: time.perf_counter_ns() - started,
            load_ns=work.load_ns,
            context=(lambda reply: _remembered(call, work, conversation, reply)) if conversation else None,
            warnings=call.warnings.warnings,
        )

    if body.options is not None and body.options.num_ctx is not None:
        asked = await _bounded(call, asked, body.options.num_ctx)
    if body.stream:
        return await call.stream(asked, writer, JsonLines)
    return call.json((await call.written(asked, writer)).whole)


async def _bounded(call: RequestContext, asked: ChatRequest | RawRequest, num_ctx: int) -> ChatRequest | RawRequest:
    """The same request, prompt and reply together within ``num_ctx`` tokens. Raises ContextError."""
    loaded = call.pool.loaded().get(asked.model)
    if loaded is not None and num_ctx >= loaded.context_len:
        return asked
    if isinstance(asked, ChatRequest):
        num_prompt = len((await call.rendered(asked)).token_ids)
    else:
        async with call.model(asked.model) as runtime:
            num_prompt = len(await asyncio.to_thread(tokenized, runtime, str(asked.prompts[0]), control=True))
    room = num_ctx - num_prompt
    if room < 1:
        raise ContextError(
            f"The prompt has {num_prompt:,} tokens.",
            f"num_ctx of {num_ctx:,} leaves no room for a reply.",
            "Raise num_ctx, or shorten the conversation.",
        )
    most = room if asked.params.max_tokens is None else min(room, asked.params.max_tokens)
    return dataclasses.replace(asked, params=dataclasses.replace(asked.params, max_tokens=most))


def _remembered(
    call: RequestContext, work: RunningGeneration, conversation: Sequence[Message], reply: Reply
) -> list[int]:
    """The tokens by which a later request may follow this conversation."""
    context = [*work.streams[0].prompt_ids, *reply.token_ids]
    messages = (*conversation, said(reply))
    call.kept.put(call.client.name, _context_key(context), messages, size_of(messages))
    return context


async def _touch(call: RequestContext, body: fields.WriteBody, *, chats: bool) -> Response:
    """A request without a prompt loads its model, or unloads it with ``keep_alive`` 0 and a key that may."""
    if str(body.keep_alive).rstrip("smh") in ("0", "0.0"):
        if "manage" not in call.client.scopes:
            raise RefusedError("permission", "This key unloads no models.", "It lacks the scope manage.", "Use one.")
        await call.pool.unload(body.model)
        return call.json(idle(body.model, chats=chats, reason="unload", now=time.time()))
    review(body, call.warnings)
    async with call.model(body.model):
        return call.json(idle(body.model, chats=chats, reason="load", now=time.time()))


async def embed(call: RequestContext, body: fields.OllamaEmbedBody) -> Response:
    """Vectors of texts."""
    review(body, call.warnings)
    started = time.perf_counter_ns()
    texts = [body.input] if isinstance(body.input, str) else body.input
    vectors, num_tokens = await _embedded(call, body, texts, "input")
    if body.dimensions is not None:
        if vectors and body.dimensions > len(vectors[0]):
            raise FieldError(
                "dimensions", f"The model's vectors have {len(vectors[0]):,}.", "GenerationRequest for fewer."
            )
        vectors = [_shortened(vector, body.dimensions) for vector in vectors]
    answer = {"model": body.model, "embeddings": vectors, "prompt_eval_count": num_tokens}
    return call.json({**answer, "total_duration": time.perf_counter_ns() - started, "load_duration": 0})


async def embeddings(call: RequestContext, body: fields.OllamaEmbeddingsBody) -> Response:
    """The vector of a text, in the older form."""
    review(body, call.warnings)
    vectors, _ = await _embedded(call, body, [body.prompt], "prompt")
    return call.json({"embedding": vectors[0]})


async def _embedded(
    call: RequestContext, body: fields.OllamaEmbedBody | fields.OllamaEmbeddingsBody, texts: Sequence[str], path: str
) -> tuple[list[list[float]], int]:
    """Vectors of texts, and how many tokens they had."""
    vectors: list[list[float]] = []
    num_tokens = 0
    async with call.model(body.model) as runtime:
        most = body.options.num_ctx if body.options else None
        for text in texts:
            vector, num_read = await asyncio.to_thread(_vector, runtime, text, path, most)
            vectors.append(vector)
            num_tokens += num_read
            await call.still_there()
    call.spend(num_tokens)
    return vectors, num_tokens


def _vector(runtime: Runtime, text: str, path: str, most: int | None) -> tuple[list[float], int]:
    """The vector of a text of at most ``most`` tokens, and how many it had. Raises ContextError."""
    ids = tokenized(runtime, text)
    if most is not None and len(ids) > most:
        raise ContextError(f"{path} has a text of {len(ids):,} tokens.", f"num_ctx is {most:,}.", "Raise it.")
    return runtime.embed(ids).tolist(), len(ids)


def _shortened(vector: Sequence[float], dimensions: int) -> list[float]:
    """The first numbers of a vector, scaled to length 1 again."""
    kept = vector[:dimensions]
    length = math.hypot(*kept) or 1.0
    return [value / length for value in kept]


async def tags(call: RequestContext) -> Response:
    """The models that are served. Of those that are not loaded it says no more than their names."""
    loaded, created_s = call.pool.loaded(), call.pool.created
    infos = {name: loaded[name].info if name in loaded else None for name in call.pool.names()}
    return call.json({"models": [listed(name, info, created_s) for name, info in infos.items()]})


async def running(call: RequestContext) -> Response:
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


async def show(call: RequestContext, body: fields.OllamaShowBody) -> Response:
    """One model."""
    review(body, call.warnings)
    async with call.model(body.model) as runtime:
        return call.json(described(runtime.info, call.pool.created))


async def version(call: RequestContext) -> Response:
    """The version of the server."""
    return call.json({"version": __version__})


async def not_over_http(call: RequestContext) -> Response:
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
