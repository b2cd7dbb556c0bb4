"""The Anthropic API: messages and token counts."""

from __future__ import annotations

from starlette.responses import Response

from loqal.server.anthropic import protocol as fields
from loqal.server.anthropic import schema
from loqal.server.anthropic.format import MessageWriter, error
from loqal.server.anthropic.parse import parse, parse_count
from loqal.server.service.dialect import Dialect, Route
from loqal.server.service.request_context import RequestContext
from loqal.server.shared.streaming import ServerSentEvents


async def create(context: RequestContext, body: fields.MessagesBody) -> Response:
    """Generate the next message of a conversation."""
    request = parse(body, context.warnings)
    generation = await context.begin(request)
    writer = MessageWriter(
        f"msg_{context.id.removeprefix('req_')}",
        body.model,
        body.max_tokens,
        prompt_tokens=generation.prompt_tokens,
        shows_thinking=getattr(body.thinking, "display", None) != "omitted",
        warnings=context.warnings.warnings,
        request_id=context.id,
    )
    if body.stream:
        return context.stream(generation, writer, ServerSentEvents)
    await context.finish(generation, writer)
    return context.json(writer.message)


async def count_tokens(context: RequestContext, body: fields.CountTokensBody) -> Response:
    """Count the prompt tokens of a conversation, cached or not."""
    rendered = await context.render(parse_count(body, context.warnings))
    return context.json({"input_tokens": len(rendered.token_ids)})


DIALECT = Dialect(
    "anthropic",
    "Anthropic",
    (
        Route(
            "POST",
            "/v1/messages",
            "infer",
            create,
            "Create a message",
            body=fields.MessagesBody,
            answer=schema.MessageAnswer,
            event=schema.MessageEvent,
            wire=ServerSentEvents,
        ),
        Route(
            "POST",
            "/v1/messages/count_tokens",
            "infer",
            count_tokens,
            "Count the tokens of a message",
            body=fields.CountTokensBody,
            answer=schema.CountAnswer,
        ),
    ),
    error,
)
