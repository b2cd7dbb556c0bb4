"""The native API: health, metrics, rendered prompts, tokens, scores."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from starlette.responses import JSONResponse, Response

from loqal import __version__
from loqal.errors import LoqalError
from loqal.runtime.runtime import Runtime
from loqal.server.native import schema
from loqal.server.native.protocol import DetokenizeBody, RenderBody, ScoreBody, TokenizeBody, UnloadBody
from loqal.server.openai.parse import parse
from loqal.server.service.dialect import Dialect, Route
from loqal.server.service.request_context import RequestContext
from loqal.server.shared import prompt_length
from loqal.server.shared.errors import openai_error
from loqal.server.shared.logprobs import format_logprobs
from loqal.types.reply import TokenLogprobs
from loqal.types.sampling import SamplingParams

_STEP_S = 20.0  # within which a healthy server generates a token
_HIGHEST_PRIORITY = -1000


async def health(context: RequestContext) -> Response:
    """Generate one token with every loaded model."""
    found: dict[str, dict[str, Any]] = {name: {"loaded": False, "step_ms": None} for name in context.state.pool.names()}
    message = None
    try:
        async with asyncio.timeout(_STEP_S):
            for name, runtime in list(context.state.pool.loaded().items()):
                found[name] = {"loaded": True, "step_ms": None}
                found[name]["step_ms"] = await _shared_step(context, name, runtime)
    except LoqalError as failure:
        message = str(failure)
    except TimeoutError:
        message = (
            "The server is not healthy.\n"
            f"A model did not generate a token within {_STEP_S:.0f} seconds.\n"
            "Check the load of the machine and the log of the server."
        )
    status = {"status": "ok" if message is None else "failing", "version": __version__, "models": found}
    return JSONResponse(status | ({} if message is None else {"message": message}), 200 if message is None else 503)


async def _shared_step(context: RequestContext, name: str, runtime: Runtime) -> float:
    """The duration of one token in milliseconds. Concurrent health checks share one token."""
    checks = context.state.health_checks
    if name not in checks or checks[name].done():
        checks[name] = asyncio.ensure_future(asyncio.to_thread(_step, runtime))
    return await asyncio.shield(checks[name])


def _step(runtime: Runtime) -> float:
    started = time.perf_counter()
    params = SamplingParams(max_tokens=1, temperature=0.0, seed=0, ignore_eos=True)
    runtime.stream_generate("a", params, priority=_HIGHEST_PRIORITY, client="health").finish()
    return round((time.perf_counter() - started) * 1e3, 3)


async def metrics(context: RequestContext) -> Response:
    """Prometheus metrics."""
    loaded = context.state.pool.loaded()
    statistics = {name: await asyncio.to_thread(runtime.statistics) for name, runtime in list(loaded.items())}
    page = context.state.metrics.page({name: runtime.plan.total_bytes for name, runtime in loaded.items()}, statistics)
    return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")


async def render(context: RequestContext, body: RenderBody) -> Response:
    """Render the prompt of a conversation."""
    request = parse(body, context.warnings)
    rendered = await context.render(request)
    async with context.model(body.model) as runtime:
        context_len = runtime.context_len
    return context.json(
        {
            "model": body.model,
            "token_ids": rendered.token_ids,
            "num_tokens": len(rendered.token_ids),
            "context_len": context_len,
            "thinks": rendered.thinks,
            "segments": [dataclasses.asdict(segment) for segment in rendered.segments],
            "media": [dataclasses.asdict(info) for info in rendered.media],
            "cached_tokens": rendered.cached_tokens,
            "cache_miss": rendered.cache_miss,
            "replays": rendered.replays,
        }
    )


async def tokenize(context: RequestContext, body: TokenizeBody) -> Response:
    """Tokenize a text."""
    async with context.model(body.model) as runtime:
        token_ids = await asyncio.to_thread(prompt_length.tokenize, runtime, body.text, control=body.control)
        texts = await asyncio.to_thread(_texts, runtime, token_ids)
    return context.json({"model": body.model, "token_ids": token_ids, "texts": texts})


def _texts(runtime: Runtime, token_ids: Sequence[int]) -> list[str]:
    return [runtime.token_bytes(token_id).decode(errors="replace") for token_id in token_ids]


async def detokenize(context: RequestContext, body: DetokenizeBody) -> Response:
    """Decode token ids."""
    async with context.model(body.model) as runtime:
        text = await asyncio.to_thread(runtime.detokenize, body.token_ids, skip_special=body.skip_special)
    return context.json({"model": body.model, "text": text})


async def score(context: RequestContext, body: ScoreBody) -> Response:
    """Compute the log probabilities of continuations."""
    scores = []
    async with context.model(body.model) as runtime:
        prompt = body.prompt
        if isinstance(prompt, str):
            prompt = await asyncio.to_thread(prompt_length.tokenize, runtime, prompt, control=True)
        for continuation in body.continuations:
            found = await asyncio.to_thread(_scored, runtime, body, prompt, continuation)
            scores.append(_score(found, runtime))
            context.spend(len(prompt) + len(found))
            await context.check_connected()
    return context.json({"model": body.model, "scores": scores})


def _scored(
    runtime: Runtime, body: ScoreBody, prompt: Sequence[int], continuation: str | list[int]
) -> tuple[TokenLogprobs, ...]:
    prompt_length.check_length(runtime, [text for text in (body.prompt, continuation) if isinstance(text, str)])
    return runtime.score(prompt, continuation, top=body.top_logprobs)


def _score(found: tuple[TokenLogprobs, ...], runtime: Runtime) -> dict[str, Any]:
    return {
        "logprob": sum(one.logprob for one in found),
        "token_ids": [one.token_id for one in found],
        "tokens": format_logprobs(found, runtime.token_bytes),
    }


async def unload(context: RequestContext, body: UnloadBody) -> Response:
    """Unload a model until it is requested again."""
    return context.json({"model": body.model, "unloaded": await context.state.pool.unload(body.model)})


async def openapi(context: RequestContext) -> Response:
    """Return the OpenAPI document."""
    return JSONResponse(context.http.app.state.openapi())


DIALECT = Dialect(
    "loqal",
    "loqal",
    (
        Route("GET", "/health", "read", health, "Health of the models", answer=schema.Health),
        Route("GET", "/metrics", "read", metrics, "Prometheus metrics", media_type="text/plain"),
        Route("GET", "/openapi.json", "read", openapi, "The OpenAPI document"),
        Route("POST", "/v1/render", "infer", render, "Render a prompt", body=RenderBody, answer=schema.RenderAnswer),
        Route(
            "POST",
            "/v1/tokenize",
            "infer",
            tokenize,
            "Tokenize a text",
            body=TokenizeBody,
            answer=schema.TokenizeAnswer,
        ),
        Route(
            "POST",
            "/v1/detokenize",
            "infer",
            detokenize,
            "Decode token ids",
            body=DetokenizeBody,
            answer=schema.DetokenizeAnswer,
        ),
        Route("POST", "/v1/score", "infer", score, "Score continuations", body=ScoreBody, answer=schema.ScoreAnswer),
        Route("POST", "/v1/unload", "manage", unload, "Unload a model", body=UnloadBody, answer=schema.UnloadAnswer),
    ),
    openai_error,
)
