"""The Responses API: responses, also in the background, and the stored responses that later requests refer to."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter
from starlette.responses import Response

from loqal.server.openai_responses import protocol as fields
from loqal.server.openai_responses import schema
from loqal.server.openai_responses.format import ResponseWriter
from loqal.server.openai_responses.parse import parse
from loqal.server.service.dialect import Dialect, Route
from loqal.server.service.request_context import RequestContext, RunningGeneration
from loqal.server.shared.conversation import reply_message, size_of
from loqal.server.shared.errors import FieldError, RefusedError, openai_error, problem
from loqal.server.shared.generation_request import ChatRequest
from loqal.server.shared.resumable_streams import EventLog
from loqal.server.shared.streaming import Event, ServerSentEvents, StreamedResponse
from loqal.types.messages import Message
from loqal.types.reply import Reply

_ITEM: TypeAdapter[fields.Item] = TypeAdapter(fields.Item)


@dataclass(slots=True)
class StoredResponse:
    """A stored response.

    Attributes:
        response: the response, which grows while it is generated.
        items: the input items of its request.
        messages: the conversation so far, without instructions.
        task: generates a response in the background; None when it is complete.
        log: the events of a response in the background; None for others.
    """

    response: dict[str, Any]
    items: list[dict[str, Any]]
    messages: tuple[Message, ...]
    task: asyncio.Task[None] | None = None
    log: EventLog | None = None


async def create(context: RequestContext, body: fields.ResponseBody) -> Response:
    """Create a response: whole, as a stream of events, or in the background."""
    request, conversation = _parsed(context, body)
    if body.background and body.store is False:
        raise FieldError(
            "background",
            "A response in the background must be stored to be retrieved.",
            "Remove store, or set background to false.",
        )
    stored = StoredResponse({}, listed(body, _new_id), conversation)
    generation = await context.begin(request)
    writer = ResponseWriter(
        body,
        request.model,
        now=time.time,
        new_id=_new_id,
        token_bytes=generation.runtime.token_bytes,
        on_end=lambda reply: _store(context, body, stored, reply),
        warnings=context.warnings.warnings,
    )
    stored.response = writer.response
    if body.background:
        return _in_background(context, body, generation, stored, writer)
    if body.stream:
        return context.stream(generation, writer, ServerSentEvents)
    await context.finish(generation, writer)
    return context.json(writer.response)


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(24)}"


def _parsed(context: RequestContext, body: fields.InputTokensBody) -> tuple[ChatRequest, tuple[Message, ...]]:
    names = context.state.pool.names()
    if body.model is None and len(names) != 1:
        raise FieldError(
            "model",
            "The field is required, because the server does not have exactly one model.",
            f"Send one of {', '.join(names)}.",
        )
    before: tuple[Message, ...] = ()
    if body.previous_response_id is not None:
        earlier = context.state.stored.get(context.client.name, body.previous_response_id)
        if not isinstance(earlier, StoredResponse):
            raise FieldError(
                "previous_response_id", "No stored response has this id.", "Send the conversation as input."
            )
        if earlier.response["status"] not in ("completed", "incomplete"):
            raise FieldError(
                "previous_response_id",
                f"The status of the response is {earlier.response['status']}.",
                "Wait until it is completed.",
            )
        before = earlier.messages

    def find(identity: str) -> fields.Item | None:
        item = context.state.stored.get(context.client.name, identity)
        return _ITEM.validate_python(item) if isinstance(item, Mapping) else None

    return parse(body, body.model or names[0], context.warnings, before, find)


def _store(context: RequestContext, body: fields.ResponseBody, stored: StoredResponse, reply: Reply) -> None:
    """Store a complete response and its items, unless the request says not to."""
    if body.store is False:
        return
    stored.messages = (*stored.messages, reply_message(reply))
    owner, response = context.client.name, stored.response
    size_bytes = len(json.dumps([response, stored.items])) + size_of(stored.messages)
    context.state.stored.put(owner, response["id"], stored, size_bytes)
    for item in response["output"]:
        context.state.stored.put(owner, item["id"], item, len(json.dumps(item)))


def listed(body: fields.ResponseBody, new_id: Callable[[str], str]) -> list[dict[str, Any]]:
    """The input items of a request with ids, as ``input_items`` lists them."""
    if isinstance(body.input, str):
        content = [{"type": "input_text", "text": body.input}]
        return [{"type": "message", "id": new_id("msg"), "status": "completed", "role": "user", "content": content}]
    dumped = [item.model_dump(mode="json", by_alias=True, exclude_none=True) for item in body.input or ()]
    return [_listed_item(item, new_id) for item in dumped]


def _listed_item(item: dict[str, Any], new_id: Callable[[str], str]) -> dict[str, Any]:
    prefix = {"message": "msg", "reasoning": "rs", "function_call": "fc"}.get(item["type"], "item")
    item = {"id": new_id(prefix), "status": "completed", **item}
    if item["type"] == "reasoning":
        return {"summary": [], **item}
    if item["type"] != "message":
        return item
    kind = "output_text" if item["role"] == "assistant" else "input_text"
    content = item["content"]
    parts = [{"type": kind, "text": content}] if isinstance(content, str) else content
    return {**item, "content": [{"annotations": [], **part} if kind == "output_text" else part for part in parts]}


# In the background ----------------------------------------------------------------------------------------------------


def _in_background(
    context: RequestContext,
    body: fields.ResponseBody,
    generation: RunningGeneration,
    stored: StoredResponse,
    writer: ResponseWriter,
) -> Response:
    """Answer before the response is complete; with ``stream``, with its events. A disconnect does not cancel it."""
    log = stored.log = EventLog()
    _append(log, writer.start())
    context.state.stored.put(context.client.name, writer.response["id"], stored, size_of(stored.messages))
    stored.task = asyncio.create_task(_run(context, generation, writer, stored, log))
    context.state.tasks.add(stored.task)
    stored.task.add_done_callback(context.state.tasks.discard)
    stored.task.add_done_callback(lambda _: log.close())
    if body.stream:
        return StreamedResponse(log.follow(0), ServerSentEvents.media_type, _nothing)
    return context.json({**writer.response, "output": []})


async def _run(
    context: RequestContext,
    generation: RunningGeneration,
    writer: ResponseWriter,
    stored: StoredResponse,
    log: EventLog,
) -> None:
    stream = generation.streams[0]
    try:
        async for delta in stream:
            _append(log, writer.push(0, delta))
        _append(log, writer.end(0, stream.reply))
    except asyncio.CancelledError:
        stream.close()
        _append(log, writer.end(0, stream.reply))
    except Exception as error:
        context.on_failure(error)
        _append(log, writer.failed(problem(error)))
    finally:
        await generation.close()
        stored.task = None


def _append(log: EventLog, events: list[Event]) -> None:
    for event in events:
        log.append(ServerSentEvents.encode(event))


async def _nothing() -> None:
    """The response continues without its reader."""


# Stored responses -----------------------------------------------------------------------------------------------------


def _find(context: RequestContext) -> StoredResponse:
    identity = context.http.path_params["response_id"]
    found = context.state.stored.get(context.client.name, identity)
    if not isinstance(found, StoredResponse):
        raise RefusedError(
            "not_found",
            f"The response {identity[:100]!r} does not exist.",
            "The server keeps responses in memory, by API key, and deletes the least recently used ones.",
            "Create the response again.",
        )
    return found


def _query(context: RequestContext, *known: str) -> dict[str, str]:
    """The query parameters. Raises FieldError for an unknown one."""
    for name in context.http.query_params:
        if name.removesuffix("[]") not in known:
            raise FieldError(name, "The parameter is unknown.", f"Send only {', '.join(known)}.")
    return dict(context.http.query_params)


def _number(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    try:
        value = int(query.get(name, default))
    except ValueError:
        raise FieldError(name, "It is not an integer.", f"Send an integer from {low:,} to {high:,}.") from None
    if not low <= value <= high:
        raise FieldError(name, f"It is {value}.", f"Send an integer from {low:,} to {high:,}.")
    return value


async def retrieve(context: RequestContext) -> Response:
    """Retrieve a response; with ``stream``, the events of a background response after ``starting_after``."""
    stored = _find(context)
    query = _query(context, "include", "include_obfuscation", "stream", "starting_after")
    if query.get("stream") != "true":
        return context.json(stored.response)
    if stored.log is None:
        raise FieldError(
            "stream",
            "Only responses that were created with background have stored events.",
            "Retrieve the response without stream.",
        )
    after = _number(query, "starting_after", -1, -1, 2**31)
    return StreamedResponse(stored.log.follow(after + 1), ServerSentEvents.media_type, _nothing)


async def delete(context: RequestContext) -> Response:
    """Delete a response; one in progress is cancelled."""
    stored = _find(context)
    await _stop(stored)
    context.state.stored.drop(context.client.name, stored.response["id"])
    return context.json({"id": stored.response["id"], "object": "response", "deleted": True})


async def cancel(context: RequestContext) -> Response:
    """Cancel a response in the background; its output so far is kept."""
    stored = _find(context)
    if not stored.response["background"]:
        raise FieldError("response_id", "The response is not in the background.", "Close its connection to cancel it.")
    await _stop(stored)
    return context.json(stored.response)


async def _stop(stored: StoredResponse) -> None:
    if stored.task is not None:
        stored.task.cancel()
        await asyncio.wait([stored.task])


async def input_items(context: RequestContext) -> Response:
    """List the input items of a response, newest first unless ``order`` is asc."""
    stored = _find(context)
    query = _query(context, "after", "include", "limit", "order")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise FieldError("order", "It must be asc or desc.", "Send one of these.")
    limit = _number(query, "limit", 20, 1, 100)
    items = stored.items if order == "asc" else stored.items[::-1]
    if "after" in query:
        ids = [item["id"] for item in items]
        if query["after"] not in ids:
            raise FieldError("after", "No item has this id.", "Send the id of the last item of the previous page.")
        items = items[ids.index(query["after"]) + 1 :]
    page = items[:limit]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": "", "last_id": ""}
    return context.json({"object": "list", "data": page, **ends, "has_more": len(items) > limit})


async def input_tokens(context: RequestContext, body: fields.InputTokensBody) -> Response:
    """Count the input tokens of a request."""
    request, _ = _parsed(context, body)
    rendered = await context.render(request)
    return context.json({"object": "response.input_tokens", "input_tokens": len(rendered.token_ids)})


async def compact(context: RequestContext) -> Response:
    """Compact a conversation: not supported."""
    raise RefusedError(
        "not_found",
        "This server cannot compact responses.",
        "It never shortens a conversation.",
        "Send a shorter conversation as input.",
    )


_ONE = "/v1/responses/{response_id}"

DIALECT = Dialect(
    "responses",
    "OpenAI Responses",
    (
        Route(
            "POST",
            "/v1/responses",
            "infer",
            create,
            "Create a response",
            body=fields.ResponseBody,
            answer=schema.ResponseAnswer,
            event=schema.ResponseEvent,
            wire=ServerSentEvents,
        ),
        Route(
            "POST",
            "/v1/responses/input_tokens",
            "infer",
            input_tokens,
            "Count input tokens",
            body=fields.InputTokensBody,
            answer=schema.InputTokensAnswer,
        ),
        Route("POST", "/v1/responses/compact", "infer", compact, "Not supported"),
        Route("GET", _ONE, "infer", retrieve, "Retrieve a response", answer=schema.ResponseAnswer),
        Route("DELETE", _ONE, "infer", delete, "Delete a response", answer=schema.DeletedAnswer),
        Route(
            "POST",
            f"{_ONE}/cancel",
            "infer",
            cancel,
            "Cancel a background response",
            answer=schema.ResponseAnswer,
        ),
        Route("GET", f"{_ONE}/input_items", "infer", input_items, "List input items", answer=schema.ItemsAnswer),
    ),
    openai_error,
)
