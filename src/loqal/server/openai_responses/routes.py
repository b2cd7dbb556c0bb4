"""OpenAI's Responses API: its routes, and the responses that are kept for later requests, in memory.

``responses_parse`` says what requests become, ``responses_writer`` what replies look like.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter
from starlette.responses import Response

from loqal.server.openai.format import error
from loqal.server.openai_responses import protocol as fields
from loqal.server.openai_responses import schema as answers
from loqal.server.openai_responses.format import ResponseWriter
from loqal.server.openai_responses.parse import parse
from loqal.server.service.request_context import Dialect, RequestContext, Route, RunningGeneration
from loqal.server.shared.conversation import said, size_of
from loqal.server.shared.errors import FieldError, RefusedError, problem
from loqal.server.shared.generation_request import ChatRequest, check_range
from loqal.server.shared.streaming import Event, ServerSentEvents, StreamedResponse
from loqal.types.messages import Message
from loqal.types.reply import Reply

_ITEM: TypeAdapter[fields.Item] = TypeAdapter(fields.Item)


@dataclass(slots=True)
class StoredResponse:
    """A response that is kept. ``messages`` are those of the conversation so far, without instructions.

    One that is written in the background has a ``task`` and its events so far; ``grown`` is set when there are more.
    """

    response: dict[str, Any]
    items: list[dict[str, Any]]  # of the request
    messages: tuple[Message, ...]
    task: asyncio.Task[None] | None = None
    events: list[Event] = field(default_factory=list)
    grown: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, events: list[Event]) -> None:
        """More events of a response in the background."""
        self.events += events
        self.grown.set()
        self.grown = asyncio.Event()

    async def follow(self, after: int) -> AsyncIterator[bytes]:
        """The events with higher numbers than ``after``, to the last one."""
        position = after + 1
        while True:
            grown = self.grown
            for event in self.events[position:]:
                yield ServerSentEvents.encode(event)
            position = max(position, len(self.events))
            if self.task is None or self.task.done():
                return
            await grown.wait()


async def create(call: RequestContext, body: fields.ResponseBody) -> Response:
    """Answer a conversation: whole, as a stream of events, or in the background."""
    asked, conversation = _asked(call, body)
    kept = StoredResponse({}, listed(body, _new_id), conversation)

    def writer(work: RunningGeneration) -> ResponseWriter:
        made = ResponseWriter(
            body,
            asked.model,
            now=time.time,
            new_id=_new_id,
            spell=work.runtime.token_bytes,
            on_end=lambda reply: _keep(call, body, kept, reply),
            warnings=call.warnings.warnings,
        )
        kept.response = made.response
        return made

    if body.background:
        return await _in_background(call, body, asked, kept, writer)
    if body.stream:
        return await call.stream(asked, writer, ServerSentEvents)
    return call.json((await call.written(asked, writer)).response)


def _new_id(prefix: str) -> str:
    return f"{prefix}_{secrets.token_hex(24)}"


def _asked(call: RequestContext, body: fields.InputTokensBody) -> tuple[ChatRequest, tuple[Message, ...]]:
    names = call.pool.names()
    if body.model is None and len(names) != 1:
        raise FieldError("model", "It is missing.", f"Name one of {', '.join(names)}.")
    before: tuple[Message, ...] = ()
    if body.previous_response_id is not None:
        earlier = call.kept.get(call.client.name, body.previous_response_id)
        if not isinstance(earlier, StoredResponse):
            raise FieldError(
                "previous_response_id", "No such response is kept here.", "Send the conversation as input."
            )
        if earlier.response["status"] not in ("completed", "incomplete"):
            raise FieldError("previous_response_id", f"That response is {earlier.response['status']}.", "Wait for it.")
        before = earlier.messages

    def find(identity: str) -> fields.Item | None:
        item = call.kept.get(call.client.name, identity)
        return _ITEM.validate_python(item) if isinstance(item, Mapping) else None

    return parse(body, body.model or names[0], call.warnings, before, find)


def _keep(call: RequestContext, body: fields.ResponseBody, kept: StoredResponse, reply: Reply) -> None:
    """Keep a complete response and its items, unless the caller does not want that."""
    if body.store is False:
        return
    kept.messages = (*kept.messages, said(reply))
    owner, response = call.client.name, kept.response
    size_bytes = len(json.dumps([response, kept.items])) + size_of(kept.messages)
    call.kept.put(owner, response["id"], kept, size_bytes)
    for item in response["output"]:
        call.kept.put(owner, item["id"], item, len(json.dumps(item)))


def listed(body: fields.ResponseBody, new_id: Callable[[str], str]) -> list[dict[str, Any]]:
    """The items of a request with ids, as they are listed later."""
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


async def _in_background(
    call: RequestContext,
    body: fields.ResponseBody,
    asked: ChatRequest,
    kept: StoredResponse,
    writer: Callable[[RunningGeneration], ResponseWriter],
) -> Response:
    """Begin a response, and answer before it is complete; with ``stream``, its events, which it does not depend on."""
    if body.store is False:
        raise FieldError("background", "A response that is not stored could not be asked for.", "Leave store out.")
    work = await call.begin(asked)
    made = writer(work)
    kept.add(made.start())
    call.kept.put(call.client.name, made.response["id"], kept, size_of(kept.messages))
    kept.task = asyncio.create_task(_run(call, work, made, kept))
    call.state.tasks.add(kept.task)
    kept.task.add_done_callback(call.state.tasks.discard)
    if body.stream:
        return StreamedResponse(kept.follow(-1), ServerSentEvents.media_type, _nothing)
    return call.json({**made.response, "output": []})


async def _run(call: RequestContext, work: RunningGeneration, writer: ResponseWriter, kept: StoredResponse) -> None:
    stream = work.streams[0]
    try:
        async for piece in stream:
            kept.add(writer.push(0, piece))
        kept.add(writer.end(0, stream.reply))
    except asyncio.CancelledError:
        stream.close()
        kept.add(writer.end(0, stream.reply))
    except Exception as found:
        call.on_failure(found)
        kept.add(writer.failed(problem(found)))
    finally:
        await work.close()
        kept.task = None
        kept.add([])


async def _nothing() -> None:
    """The response goes on without its reader."""


# Kept responses -------------------------------------------------------------------------------------------------------


def _find(call: RequestContext) -> StoredResponse:
    identity = call.http.path_params["response_id"]
    found = call.kept.get(call.client.name, identity)
    if not isinstance(found, StoredResponse):
        raise RefusedError(
            "not_found",
            f"The response {identity[:100]!r} is not kept here.",
            "Responses are kept in memory, while there is room, for the key that asked for them.",
            "GenerationRequest again.",
        )
    return found


def _query(call: RequestContext, *known: str) -> dict[str, str]:
    """The query's parameters. Raises FieldError for one that is not known."""
    for name in call.http.query_params:
        if name.removesuffix("[]") not in known:
            raise FieldError(name, "It is not known.", f"Known are {', '.join(known)}.")
    return dict(call.http.query_params)


def _number(query: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    try:
        value = int(query.get(name, default))
    except ValueError:
        raise FieldError(name, "It is not a whole number.") from None
    check_range(name, value, low, high)
    return value


async def retrieve(call: RequestContext) -> Response:
    """A kept response; with ``stream``, the events of one in the background that come after ``starting_after``."""
    kept = _find(call)
    query = _query(call, "include", "include_obfuscation", "stream", "starting_after")
    if query.get("stream") != "true":
        return call.json(kept.response)
    if not kept.events:
        raise FieldError(
            "stream", "Events are kept of responses in the background only.", "GenerationRequest without stream."
        )
    after = _number(query, "starting_after", -1, -1, 2**31)
    return StreamedResponse(kept.follow(after), ServerSentEvents.media_type, _nothing)


async def delete(call: RequestContext) -> Response:
    """Forget a response; one that is being written is cancelled."""
    kept = _find(call)
    await _stop(kept)
    call.kept.drop(call.client.name, kept.response["id"])
    return call.json({"id": kept.response["id"], "object": "response", "deleted": True})


async def cancel(call: RequestContext) -> Response:
    """Stop a response in the background. What was written of it stays."""
    kept = _find(call)
    if not kept.response["background"]:
        raise FieldError("response_id", "It is not in the background.", "Close the connection to cancel it.")
    await _stop(kept)
    return call.json(kept.response)


async def _stop(kept: StoredResponse) -> None:
    if kept.task is not None:
        kept.task.cancel()
        await asyncio.wait([kept.task])


async def input_items(call: RequestContext) -> Response:
    """The items of a response's request, newest first unless ``order`` is asc."""
    kept = _find(call)
    query = _query(call, "after", "include", "limit", "order")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise FieldError("order", "It must be asc or desc.")
    limit = _number(query, "limit", 20, 1, 100)
    items = kept.items if order == "asc" else kept.items[::-1]
    if "after" in query:
        ids = [item["id"] for item in items]
        if query["after"] not in ids:
            raise FieldError("after", "No item has this id.", "Give the id of the last item you have.")
        items = items[ids.index(query["after"]) + 1 :]
    page = items[:limit]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": "", "last_id": ""}
    return call.json({"object": "list", "data": page, **ends, "has_more": len(items) > limit})


async def input_tokens(call: RequestContext, body: fields.InputTokensBody) -> Response:
    """The tokens of a request as the model would read it."""
    asked, _ = _asked(call, body)
    rendered = await call.rendered(asked)
    return call.json({"object": "response.input_tokens", "input_tokens": len(rendered.token_ids)})


async def compact(call: RequestContext) -> Response:
    """Not offered: nothing shortens a conversation here."""
    raise RefusedError(
        "not_found", "Responses cannot be compacted here.", "A conversation is read whole.", "Shorten it."
    )


_ONE = "/v1/responses/{response_id}"

DIALECT = Dialect(
    "responses",
    (
        Route(
            "POST",
            "/v1/responses",
            "infer",
            create,
            "Answer",
            body=fields.ResponseBody,
            answer=answers.ResponseAnswer,
            event=answers.ResponseEvent,
            wire=ServerSentEvents,
        ),
        Route(
            "POST",
            "/v1/responses/input_tokens",
            "infer",
            input_tokens,
            "Count the tokens of a request",
            body=fields.InputTokensBody,
            answer=answers.InputTokensAnswer,
        ),
        Route("POST", "/v1/responses/compact", "infer", compact, "Not offered"),
        Route("GET", _ONE, "infer", retrieve, "A kept response", answer=answers.ResponseAnswer),
        Route("DELETE", _ONE, "infer", delete, "Forget a response", answer=answers.DeletedAnswer),
        Route(
            "POST",
            f"{_ONE}/cancel",
            "infer",
            cancel,
            "Stop a response in the background",
            answer=answers.ResponseAnswer,
        ),
        Route("GET", f"{_ONE}/input_items", "infer", input_items, "The items of a request", answer=answers.ItemsAnswer),
    ),
    error,
)
