"""loqal's own routes: is it well, what did it do, what does the model see, tokens and scores."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import JSONResponse, Response

from loqal import __version__
from loqal.errors import LoqalError
from loqal.runtime.runtime import Runtime
from loqal.server.openai.format import error, format_logprobs
from loqal.server.openai.parse import parse
from loqal.server.openai.protocol import ChatBody, TokenIds
from loqal.server.service.request_context import Dialect, RequestContext, Route
from loqal.server.shared.fields import supported
from loqal.server.shared.generation_request import Body, check_length, tokenized
from loqal.server.shared.schema import Answer
from loqal.types.reply import TokenLogprobs
from loqal.types.sampling import SamplingParams

_STEP_S = 20.0  # within which a healthy server writes a token
_FIRST_OF_ALL = -1000  # priority
_MAX_TEXTS = 256


class RenderBody(ChatBody):
    """A conversation, as for a chat. Sampling and streaming have no effect on what the model sees."""


class TokenizeBody(Body):
    """A text to be turned into token ids."""

    model: str = supported("whose tokens they are", ..., min_length=1)
    text: str = supported("the text", ...)
    control: bool = supported("whether names of control tokens in the text stand for them", False)


class DetokenizeBody(Body):
    """Token ids to be turned into text."""

    model: str = supported("whose tokens they are", ..., min_length=1)
    token_ids: list[int] = supported("the ids", ...)
    skip_special: bool = supported("leave control tokens out", False)


class ScoreBody(Body):
    """Continuations to be scored after one prompt."""

    model: str = supported("which of the served models scores", ..., min_length=1)
    prompt: str | TokenIds = supported("what stands before, at least one token; control tokens may be named", ...)
    continuations: Annotated[list[str | TokenIds], Field(min_length=1, max_length=_MAX_TEXTS)] = supported(
        "what may follow", ..., examples=[["a"]]
    )
    top_logprobs: int = supported("so many alternatives of each token", 0, ge=0, le=20)


class UnloadBody(Body):
    """A model to be taken out of memory."""

    model: str = supported("the model", ..., min_length=1)


class ModelHealth(Answer):
    """How one model does. ``step_ms`` is how long one token took just now; None when it is not loaded."""

    loaded: bool
    step_ms: float | None


class Health(Answer):
    """Whether every loaded model wrote a token just now."""

    status: Literal["ok", "failing"]
    version: str
    models: dict[str, ModelHealth]
    message: str | None = None


class Segment(Answer):
    """A run of the prompt by where it comes from."""

    kind: Literal["template", "content", "media"]
    text: str


class Media(Answer):
    """What an image or a video becomes."""

    kind: Literal["image", "video"]
    name: str
    source_size: list[int]
    size: list[int]
    grid: list[int]
    num_tokens: int
    frame_indices: list[int]
    seconds: list[float]


class RenderAnswer(Answer):
    """What the model would read, and what of it is known already."""

    model: str
    token_ids: list[int]
    num_tokens: int
    context_len: int
    thinks: bool
    segments: list[Segment]
    media: list[Media]
    cached_tokens: int
    cache_miss: str | None
    replays: list[Literal["exact", "template"]]
    warnings: list[str] | None = None


class TokenizeAnswer(Answer):
    """Ids, and the text of each; parts of characters show as U+FFFD."""

    model: str
    token_ids: list[int]
    texts: list[str]


class DetokenizeAnswer(Answer):
    """The text."""

    model: str
    text: str


class Score(Answer):
    """One continuation; ``logprob`` is the sum over its tokens."""

    logprob: float
    token_ids: list[int]
    tokens: list[dict[str, Any]]


class ScoreAnswer(Answer):
    """Scores in the order of the continuations."""

    model: str
    scores: list[Score]


class UnloadAnswer(Answer):
    """Whether the model was in memory."""

    model: str
    unloaded: bool


async def health(call: RequestContext) -> Response:
    """Write one token with every model that is loaded."""
    found: dict[str, dict[str, Any]] = {name: {"loaded": False, "step_ms": None} for name in call.pool.names()}
    message = None
    try:
        async with asyncio.timeout(_STEP_S):
            for name, runtime in list(call.pool.loaded().items()):
                found[name] = {"loaded": True, "step_ms": None}
                found[name]["step_ms"] = await _shared_step(call, name, runtime)
    except LoqalError as failure:
        message = str(failure)
    except TimeoutError:
        message = f"No token was written within {_STEP_S:.0f} seconds."
    status = {"status": "ok" if message is None else "failing", "version": __version__, "models": found}
    return JSONResponse(status | ({} if message is None else {"message": message}), 200 if message is None else 503)


async def _shared_step(call: RequestContext, name: str, runtime: Runtime) -> float:
    """How long a token takes. Whoever asks while one is being written waits for that one."""
    steps = call.state.steps
    if name not in steps or steps[name].done():
        steps[name] = asyncio.ensure_future(asyncio.to_thread(_step, runtime))
    return await asyncio.shield(steps[name])


def _step(runtime: Runtime) -> float:
    started = time.perf_counter()
    params = SamplingParams(max_tokens=1, temperature=0.0, seed=0, ignore_eos=True)
    runtime.stream_generate("a", params, priority=_FIRST_OF_ALL, client="health").finish()
    return round((time.perf_counter() - started) * 1e3, 3)


async def metrics(call: RequestContext) -> Response:
    """Counters for Prometheus."""
    loaded = call.pool.loaded()
    statistics = {name: await asyncio.to_thread(runtime.statistics) for name, runtime in list(loaded.items())}
    page = call.state.metrics.page({name: runtime.plan.total_bytes for name, runtime in loaded.items()}, statistics)
    return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")


async def render(call: RequestContext, body: RenderBody) -> Response:
    """What a conversation becomes before the model reads it."""
    request = parse(body, call.warnings)
    rendered = await call.rendered(request)
    async with call.model(body.model) as runtime:
        context_len = runtime.context_len
    return call.json(
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


async def tokenize(call: RequestContext, body: TokenizeBody) -> Response:
    """Turn a text into token ids."""
    async with call.model(body.model) as runtime:
        token_ids = await asyncio.to_thread(tokenized, runtime, body.text, control=body.control)
        texts = await asyncio.to_thread(_spelled, runtime, token_ids)
    return call.json({"model": body.model, "token_ids": token_ids, "texts": texts})


def _spelled(runtime: Runtime, token_ids: Sequence[int]) -> list[str]:
    return [runtime.token_bytes(token_id).decode(errors="replace") for token_id in token_ids]


async def detokenize(call: RequestContext, body: DetokenizeBody) -> Response:
    """Turn token ids into text."""
    async with call.model(body.model) as runtime:
        text = await asyncio.to_thread(runtime.detokenize, body.token_ids, skip_special=body.skip_special)
    return call.json({"model": body.model, "text": text})


async def score(call: RequestContext, body: ScoreBody) -> Response:
    """Say how likely continuations are."""
    scores = []
    async with call.model(body.model) as runtime:
        prompt = body.prompt
        if isinstance(prompt, str):
            prompt = await asyncio.to_thread(tokenized, runtime, prompt, control=True)
        for continuation in body.continuations:
            found = await asyncio.to_thread(_scored, runtime, body, prompt, continuation)
            scores.append(_score(found, runtime))
            call.spend(len(prompt) + len(found))
            await call.still_there()
    return call.json({"model": body.model, "scores": scores})


def _scored(
    runtime: Runtime, body: ScoreBody, prompt: Sequence[int], continuation: str | list[int]
) -> tuple[TokenLogprobs, ...]:
    check_length(runtime, [text for text in (body.prompt, continuation) if isinstance(text, str)])
    return runtime.score(prompt, continuation, top=body.top_logprobs)


def _score(found: tuple[TokenLogprobs, ...], runtime: Runtime) -> dict[str, Any]:
    return {
        "logprob": sum(one.logprob for one in found),
        "token_ids": [one.token_id for one in found],
        "tokens": format_logprobs(found, runtime.token_bytes)["content"],
    }


async def unload(call: RequestContext, body: UnloadBody) -> Response:
    """Take a model out of memory until it is asked for again."""
    return call.json({"model": body.model, "unloaded": await call.pool.unload(body.model)})


async def page(call: RequestContext) -> Response:
    """The OpenAPI page."""
    return JSONResponse(call.http.app.state.page())


DIALECT = Dialect(
    "loqal",
    (
        Route("GET", "/health", "read", health, "Whether the models write", answer=Health),
        Route("GET", "/metrics", "read", metrics, "Counters for Prometheus", media_type="text/plain"),
        Route("GET", "/openapi.json", "read", page, "This page"),
        Route("POST", "/v1/render", "infer", render, "What the model would read", body=RenderBody, answer=RenderAnswer),
        Route("POST", "/v1/tokenize", "infer", tokenize, "Text to ids", body=TokenizeBody, answer=TokenizeAnswer),
        Route(
            "POST", "/v1/detokenize", "infer", detokenize, "Ids to text", body=DetokenizeBody, answer=DetokenizeAnswer
        ),
        Route("POST", "/v1/score", "infer", score, "How likely texts are", body=ScoreBody, answer=ScoreAnswer),
        Route("POST", "/v1/unload", "manage", unload, "Free a model's memory", body=UnloadBody, answer=UnloadAnswer),
    ),
    error,
)
