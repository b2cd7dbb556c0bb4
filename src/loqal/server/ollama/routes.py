"""The Ollama API: chats, generations, embeddings, and the models."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence

from starlette.responses import Response

from loqal import __version__
from loqal.errors import ContextError
from loqal.server.ollama import protocol as fields
from loqal.server.ollama import schema
from loqal.server.ollama.format import NEVER, LineWriter, described, error, idle, listed
from loqal.server.ollama.parse import parse_chat, parse_embed, parse_generate
from loqal.server.service.dialect import Dialect, Route
from loqal.server.service.request_context import RequestContext
from loqal.server.shared.conversation import reply_message, size_of
from loqal.server.shared.errors import FieldError, RefusedError
from loqal.server.shared.fields import review
from loqal.server.shared.generation_request import ChatRequest, RawRequest
from loqal.server.shared.prompt_length import tokenize
from loqal.server.shared.streaming import JsonLines
from loqal.types.messages import Message
from loqal.types.reply import Reply


async def chat(context: RequestContext, body: fields.OllamaChatBody) -> Response:
    """Generate the next message of a conversation."""
    if not body.messages:
        return await _load_or_unload(context, body, chats=True)
    return await _generate(context, body, parse_chat(body, context.warnings), chats=True)


async def generate(context: RequestContext, body: fields.OllamaGenerateBody) -> Response:
    """Reply to a prompt, or continue a raw one."""
    if not body.prompt and not body.images:
        return await _load_or_unload(context, body, chats=False)
    before = _stored_conversation(context, body.context) if body.context else ()
    return await _generate(context, body, parse_generate(body, context.warnings, before), chats=False)


def _stored_conversation(context: RequestContext, token_ids: Sequence[int]) -> Sequence[Message]:
    found = context.state.stored.get(context.client.name, _conversation_key(token_ids))
    if not isinstance(found, tuple):
        raise FieldError(
            "context",
            "The server has no stored conversation with these tokens.",
            "Send the conversation to /api/chat as messages.",
        )
    return found


def _conversation_key(token_ids: Sequence[int]) -> str:
    return f"context {hashlib.sha256(json.dumps(list(token_ids)).encode()).hexdigest()}"


async def _generate(
    context: RequestContext, body: fields.GenerationBody, request: ChatRequest | RawRequest, *, chats: bool
) -> Response:
    started = time.perf_counter_ns()
    if body.options is not None and body.options.num_ctx is not None:
        request = await _limited(context, request, body.options.num_ctx)
    generation = await context.begin(request)
    conversation = () if chats or not isinstance(request, ChatRequest) else request.messages

    def continuation(reply: Reply) -> list[int]:
        """The tokens by which a later request continues this conversation, which is stored under them."""
        token_ids = [*generation.streams[0].prompt_ids, *reply.token_ids]
        messages = (*conversation, reply_message(reply))
        context.state.stored.put(context.client.name, _conversation_key(token_ids), messages, size_of(messages))
        return token_ids

    writer = LineWriter(
        body.model,
        chats=chats,
        token_bytes=generation.runtime.token_bytes,
        elapsed_ns=lambda: time.perf_counter_ns() - started,
        load_ns=generation.load_ns,
        context=continuation if conversation else None,
        warnings=context.warnings.warnings,
    )
    if body.stream:
        return context.stream(generation, writer, JsonLines)
    await context.finish(generation, writer)
    return context.json(writer.whole)


async def _limited(
    context: RequestContext, request: ChatRequest | RawRequest, num_ctx: int
) -> ChatRequest | RawRequest:
    """The request with prompt and reply limited to ``num_ctx`` tokens together. Raises ContextError."""
    loaded = context.state.pool.loaded().get(request.model)
    if loaded is not None and num_ctx >= loaded.context_len:
        return request
    if isinstance(request, ChatRequest):
        num_prompt = len((await context.render(request)).token_ids)
    else:
        async with context.model(request.model) as runtime:
            num_prompt = len(await asyncio.to_thread(tokenize, runtime, str(request.prompts[0]), control=True))
    left = num_ctx - num_prompt
    if left < 1:
        raise ContextError(
            f"The prompt has {num_prompt:,} tokens and does not fit the context.",
            f"The option num_ctx allows {num_ctx:,} tokens for prompt and reply together.",
            "Raise num_ctx or shorten the conversation.",
        )
    limit = left if request.params.max_tokens is None else min(left, request.params.max_tokens)
    return dataclasses.replace(request, params=dataclasses.replace(request.params, max_tokens=limit))


async def _load_or_unload(context: RequestContext, body: fields.GenerationBody, *, chats: bool) -> Response:
    """A request without a prompt loads its model; with ``keep_alive`` 0 and the scope manage it unloads it."""
    if str(body.keep_alive).rstrip("smh") in ("0", "0.0"):
        if "manage" not in context.client.scopes:
            raise RefusedError(
                "permission",
                "The API key does not permit this request.",
                "Unloading a model requires the scope manage.",
                "Send a key with this scope.",
            )
        await context.state.pool.unload(body.model)
        return context.json(idle(body.model, chats=chats, reason="unload", now=time.time()))
    review(body, context.warnings)
    async with context.model(body.model):
        return context.json(idle(body.model, chats=chats, reason="load", now=time.time()))


async def embed(context: RequestContext, body: fields.OllamaEmbedBody) -> Response:
    """Compute embeddings of texts."""
    started = time.perf_counter_ns()
    vectors, num_tokens = await context.embed(parse_embed(body, context.warnings))
    answer = {"model": body.model, "embeddings": vectors.tolist(), "prompt_eval_count": num_tokens}
    return context.json({**answer, "total_duration": time.perf_counter_ns() - started, "load_duration": 0})


async def embeddings(context: RequestContext, body: fields.OllamaEmbeddingsBody) -> Response:
    """Compute the embedding of a text, in the older format."""
    vectors, _ = await context.embed(parse_embed(body, context.warnings))
    return context.json({"embedding": vectors[0].tolist()})


async def tags(context: RequestContext) -> Response:
    """List the served models; details only of those that are loaded."""
    pool = context.state.pool
    loaded = pool.loaded()
    infos = {name: loaded[name].info if name in loaded else None for name in pool.names()}
    return context.json({"models": [listed(name, info, pool.created) for name, info in infos.items()]})


async def running(context: RequestContext) -> Response:
    """List the loaded models. ``expires_at`` is never, because the server decides when to unload them."""
    pool = context.state.pool
    models = [
        {
            **listed(name, runtime.info, pool.created),
            "expires_at": NEVER,
            "size_vram": 0,
            "context_length": runtime.context_len,
        }
        for name, runtime in pool.loaded().items()
    ]
    return context.json({"models": models})


async def show(context: RequestContext, body: fields.OllamaShowBody) -> Response:
    """Describe one model."""
    review(body, context.warnings)
    async with context.model(body.model) as runtime:
        return context.json(described(runtime.info, context.state.pool.created))


async def version(context: RequestContext) -> Response:
    """Return the version of the server."""
    return context.json({"version": __version__})


async def not_over_http(context: RequestContext) -> Response:
    """Manage models: not supported over HTTP."""
    raise RefusedError(
        "permission",
        f"The server does not support {context.http.url.path}.",
        "Requests cannot change which models are on the disk.",
        "Use the command line on the server's machine: loqal pull, loqal rm, loqal quantize.",
    )


_MANAGING = {"pull": "POST", "push": "POST", "create": "POST", "copy": "POST", "delete": "DELETE"}

DIALECT = Dialect(
    "ollama",
    "Ollama",
    (
        Route(
            "POST",
            "/api/chat",
            "infer",
            chat,
            "Generate a chat message",
            body=fields.OllamaChatBody,
            answer=schema.OllamaChatAnswer,
            event=schema.OllamaChatAnswer,
            wire=JsonLines,
        ),
        Route(
            "POST",
            "/api/generate",
            "infer",
            generate,
            "Generate a reply",
            body=fields.OllamaGenerateBody,
            answer=schema.OllamaGenerateAnswer,
            event=schema.OllamaGenerateAnswer,
            wire=JsonLines,
        ),
        Route(
            "POST",
            "/api/embed",
            "infer",
            embed,
            "Compute embeddings",
            body=fields.OllamaEmbedBody,
            answer=schema.OllamaEmbedAnswer,
        ),
        Route(
            "POST",
            "/api/embeddings",
            "infer",
            embeddings,
            "Compute an embedding (older format)",
            body=fields.OllamaEmbeddingsBody,
            answer=schema.OllamaEmbeddingsAnswer,
        ),
        Route("GET", "/api/tags", "read", tags, "List models", answer=schema.OllamaModelsAnswer),
        Route("GET", "/api/ps", "read", running, "List loaded models", answer=schema.OllamaModelsAnswer),
        Route(
            "POST",
            "/api/show",
            "read",
            show,
            "Show a model",
            body=fields.OllamaShowBody,
            answer=schema.OllamaShowAnswer,
        ),
        Route("GET", "/api/version", "read", version, "Version", answer=schema.OllamaVersionAnswer),
        *(
            Route(method, f"/api/{verb}", "manage", not_over_http, "Not supported over HTTP")
            for verb, method in _MANAGING.items()
        ),
    ),
    error,
)
