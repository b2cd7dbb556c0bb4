"""The OpenAI dialect: chats, completions, embeddings, models. Routes join ``openai_parse`` and ``openai_writer``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from starlette.responses import Response

from loqal.runtime.runtime import Runtime
from loqal.server.openai import schema as answers
from loqal.server.openai.format import (
    ChatChunks,
    CompletionChunks,
    Echo,
    Envelope,
    error,
    format_completion,
    format_embeddings,
    format_reply,
)
from loqal.server.openai.parse import PRIORITIES, parse, parse_completion, prompts_of
from loqal.server.openai.protocol import ChatBody, CompletionBody, EmbeddingBody
from loqal.server.service.model_pool import unknown_model
from loqal.server.service.request_context import Dialect, RequestContext, Route, RunningGeneration
from loqal.server.shared.errors import FieldError
from loqal.server.shared.generation_request import RawRequest, tokenized
from loqal.server.shared.streaming import ServerSentEvents
from loqal.types.reply import TokenLogprobs

_TEXTS_AT_ONCE = 16  # between two looks at whether the client is still there


async def chat_completions(call: RequestContext, body: ChatBody) -> Response:
    """Continue a conversation."""
    request = parse(body, call.warnings)
    envelope = Envelope(call.id, body.model)
    tier = body.service_tier if body.service_tier in PRIORITIES else "default"
    if request.stream:

        def chunks(work: RunningGeneration) -> ChatChunks:
            return ChatChunks(
                envelope,
                request.n,
                work.runtime.token_bytes,
                with_usage=body.stream_options is not None and bool(body.stream_options.include_usage),
                tier=tier,
                warnings=call.warnings.warnings,
            )

        return await call.stream(request, chunks, ServerSentEvents)
    replies, runtime = await call.replies(request)
    return call.json(format_reply(replies, envelope, runtime.token_bytes, tier=tier))


async def completions(call: RequestContext, body: CompletionBody) -> Response:
    """Continue prompts as they are."""
    request = parse_completion(body, call.warnings)
    envelope = Envelope(call.id, body.model, prefix="cmpl")
    echoes = [Echo() for _ in request.prompts]
    if body.echo:
        async with call.model(body.model) as runtime:
            echoes = await asyncio.to_thread(_echoes, runtime, request, body.logprobs)
            if body.max_tokens == 0:
                return call.json(format_completion((), envelope, echoes, runtime.token_bytes, body.logprobs))
    if request.stream:

        def chunks(work: RunningGeneration) -> CompletionChunks:
            return CompletionChunks(
                envelope,
                echoes,
                request.n,
                work.runtime.token_bytes,
                num_top=body.logprobs,
                with_usage=body.stream_options is not None and bool(body.stream_options.include_usage),
                warnings=call.warnings.warnings,
            )

        return await call.stream(request, chunks, ServerSentEvents)
    replies, runtime = await call.replies(request)
    return call.json(format_completion(replies, envelope, echoes, runtime.token_bytes, body.logprobs))


def _echoes(runtime: Runtime, request: RawRequest, num_top: int | None) -> list[Echo]:
    """The prompts with their log probabilities, where these were asked for."""
    echoes = []
    for prompt in request.prompts:
        token_ids = tuple(tokenized(runtime, prompt, control=True)) if isinstance(prompt, str) else prompt
        text = prompt if isinstance(prompt, str) else runtime.detokenize(prompt, skip_special=False)
        logprobs: tuple[TokenLogprobs, ...] = ()
        if num_top is not None and len(token_ids) > 1:
            logprobs = runtime.score(token_ids[:1], token_ids[1:], top=num_top)
        echoes.append(Echo(text, token_ids, logprobs))
    return echoes


async def embeddings(call: RequestContext, body: EmbeddingBody) -> Response:
    """Turn texts into vectors."""
    rows, num_tokens = [], 0
    async with call.model(body.model) as runtime:
        if body.dimensions is not None and body.dimensions > runtime.info.width:
            raise FieldError("dimensions", f"It is {body.dimensions}; vectors have {runtime.info.width} numbers.")
        prompts = prompts_of(body.input)
        for start in range(0, len(prompts), _TEXTS_AT_ONCE):
            some = prompts[start : start + _TEXTS_AT_ONCE]
            found, num_read = await asyncio.to_thread(_embedded, runtime, some, body.pooling or "mean")
            rows.append(found)
            num_tokens += num_read
            await call.still_there()
    vectors = np.concatenate(rows)[:, : body.dimensions]
    if body.dimensions is not None:
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    call.spend(num_tokens)
    as_base64 = body.encoding_format == "base64"
    return call.json(format_embeddings(vectors, body.model, num_tokens, as_base64=as_base64))


def _embedded(
    runtime: Runtime, prompts: Sequence[str | tuple[int, ...]], pooling: Literal["mean", "last"]
) -> tuple[npt.NDArray[np.float32], int]:
    """Vectors of some texts, and how many tokens were read."""
    texts = [tokenized(runtime, prompt) if isinstance(prompt, str) else list(prompt) for prompt in prompts]
    return runtime.embed(texts, pooling=pooling), sum(map(len, texts))


async def models(call: RequestContext) -> Response:
    """The models that are served."""
    return call.json({"object": "list", "data": [_model(call, name) for name in call.pool.names()]})


async def model(call: RequestContext) -> Response:
    """One model that is served."""
    name = call.http.path_params["model"]
    if name not in call.pool.names():
        raise unknown_model(name, call.pool.names())
    return call.json(_model(call, name))


def _model(call: RequestContext, name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": call.pool.created, "owned_by": "loqal"}


DIALECT = Dialect(
    "openai",
    (
        Route(
            "POST",
            "/v1/chat/completions",
            "infer",
            chat_completions,
            "Continue a conversation",
            body=ChatBody,
            answer=answers.ChatCompletion,
            event=answers.ChatCompletionChunk,
            wire=ServerSentEvents,
        ),
        Route(
            "POST",
            "/v1/completions",
            "infer",
            completions,
            "Continue prompts as they are",
            body=CompletionBody,
            answer=answers.Completion,
            event=answers.Completion,
            wire=ServerSentEvents,
        ),
        Route(
            "POST",
            "/v1/embeddings",
            "infer",
            embeddings,
            "Turn texts into vectors",
            body=EmbeddingBody,
            answer=answers.EmbeddingList,
        ),
        Route("GET", "/v1/models", "read", models, "The models that are served", answer=answers.ModelList),
        Route("GET", "/v1/models/{model:path}", "read", model, "One model", answer=answers.Model),
    ),
    error,
)
