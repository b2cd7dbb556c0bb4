"""The OpenAI API: chat completions, completions, embeddings, models."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from loqal.runtime.runtime import Runtime
from loqal.server.openai import schema
from loqal.server.openai.format import ChatWriter, CompletionWriter, Echo, Envelope, format_embeddings
from loqal.server.openai.parse import parse, parse_completion, parse_embeddings
from loqal.server.openai.protocol import ChatBody, CompletionBody, EmbeddingBody, SamplingFields
from loqal.server.service.dialect import Dialect, Route
from loqal.server.service.model_pool import unknown_model
from loqal.server.service.request_context import RequestContext
from loqal.server.shared.errors import openai_error
from loqal.server.shared.generation_request import SERVICE_TIERS, RawRequest
from loqal.server.shared.prompt_length import tokenize
from loqal.server.shared.streaming import ServerSentEvents
from loqal.types.reply import TokenLogprobs


async def chat_completions(context: RequestContext, body: ChatBody) -> Response:
    """Generate the next message of a conversation."""
    request = parse(body, context.warnings)
    generation = await context.begin(request)
    writer = ChatWriter(
        Envelope(context.id, body.model),
        request.n,
        generation.runtime.token_bytes,
        with_usage=_with_usage(body),
        tier=body.service_tier if body.service_tier in SERVICE_TIERS else "default",
        warnings=context.warnings.warnings,
    )
    if request.stream:
        return context.stream(generation, writer, ServerSentEvents)
    await context.finish(generation, writer)
    return context.json(writer.completion)


async def completions(context: RequestContext, body: CompletionBody) -> Response:
    """Continue raw prompts, without a chat template."""
    request = parse_completion(body, context.warnings)
    echoes = [Echo() for _ in request.prompts]
    if body.echo:
        async with context.model(body.model) as runtime:
            echoes = await asyncio.to_thread(_echoes, runtime, request, body.logprobs)
            if body.max_tokens == 0:
                return context.json(_writer(context, body, 1, echoes, runtime).completion)
    generation = await context.begin(request)
    writer = _writer(context, body, request.n, echoes, generation.runtime)
    if request.stream:
        return context.stream(generation, writer, ServerSentEvents)
    await context.finish(generation, writer)
    return context.json(writer.completion)


def _with_usage(body: SamplingFields) -> bool:
    return body.stream_options is not None and bool(body.stream_options.include_usage)


def _writer(
    context: RequestContext, body: CompletionBody, n: int, echoes: list[Echo], runtime: Runtime
) -> CompletionWriter:
    return CompletionWriter(
        Envelope(context.id, body.model, prefix="cmpl"),
        echoes,
        n,
        runtime.token_bytes,
        num_top=body.logprobs,
        with_usage=_with_usage(body),
        warnings=context.warnings.warnings,
    )


def _echoes(runtime: Runtime, request: RawRequest, num_top: int | None) -> list[Echo]:
    """The prompts, with their log probabilities where these are requested."""
    echoes = []
    for prompt in request.prompts:
        token_ids = tuple(tokenize(runtime, prompt, control=True)) if isinstance(prompt, str) else prompt
        text = prompt if isinstance(prompt, str) else runtime.detokenize(prompt, skip_special=False)
        logprobs: tuple[TokenLogprobs, ...] = ()
        if num_top is not None and len(token_ids) > 1:
            logprobs = runtime.score(token_ids[:1], token_ids[1:], top=num_top)
        echoes.append(Echo(text, token_ids, logprobs))
    return echoes


async def embeddings(context: RequestContext, body: EmbeddingBody) -> Response:
    """Compute embeddings of texts."""
    vectors, num_tokens = await context.embed(parse_embeddings(body, context.warnings))
    as_base64 = body.encoding_format == "base64"
    return context.json(format_embeddings(vectors, body.model, num_tokens, as_base64=as_base64))


async def models(context: RequestContext) -> Response:
    """List the served models."""
    names = context.state.pool.names()
    return context.json({"object": "list", "data": [_model(context, name) for name in names]})


async def model(context: RequestContext) -> Response:
    """Describe one served model."""
    name, names = context.http.path_params["model"], context.state.pool.names()
    if name not in names:
        raise unknown_model(name, names)
    return context.json(_model(context, name))


def _model(context: RequestContext, name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": context.state.pool.created, "owned_by": "loqal"}


DIALECT = Dialect(
    "openai",
    "OpenAI",
    (
        Route(
            "POST",
            "/v1/chat/completions",
            "infer",
            chat_completions,
            "Create a chat completion",
            body=ChatBody,
            answer=schema.ChatCompletion,
            event=schema.ChatCompletionChunk,
            wire=ServerSentEvents,
        ),
        Route(
            "POST",
            "/v1/completions",
            "infer",
            completions,
            "Create a completion",
            body=CompletionBody,
            answer=schema.Completion,
            event=schema.Completion,
            wire=ServerSentEvents,
        ),
        Route(
            "POST",
            "/v1/embeddings",
            "infer",
            embeddings,
            "Create embeddings",
            body=EmbeddingBody,
            answer=schema.EmbeddingList,
        ),
        Route("GET", "/v1/models", "read", models, "List models", answer=schema.ModelList),
        Route("GET", "/v1/models/{model:path}", "read", model, "Retrieve a model", answer=schema.Model),
    ),
    openai_error,
)
