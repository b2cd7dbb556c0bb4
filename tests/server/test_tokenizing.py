"""No route tokenizes on the event loop, and none tokenizes all of a text that is far too long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import loqal
import tiny_checkpoint
from loqal import Runtime
from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.server.app import DIALECTS, create_app
from loqal.server.service.model_pool import ModelPool

CONTEXT_LEN = 2048
MOST_CHARS = 8 * CONTEXT_LEN  # that are turned into tokens to learn that a text is too long
SHORT, LONG = "ab", "ab" * (70 * CONTEXT_LEN)

_ONE = {"max_tokens": 1, "seed": 1}
_ONE_OF_RESPONSES = {"max_output_tokens": 1, "seed": 1}
_NUM_CTX = {"num_predict": 1, "num_ctx": 2000}
_SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def _said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def _function(text: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "description": text, "parameters": _SCHEMA}}


def _bodies(text: str) -> dict[str, list[dict[str, Any]]]:
    """Requests of every route that takes text, with this text wherever the model would read it."""
    chats = [{"messages": _said(text)}, {"messages": _said("a"), "tools": [_function(text)]}]
    claude_tool = {"name": "f", "input_schema": _SCHEMA, "description": text}
    calls = [{"type": "tool_use", "id": "c", "name": "f", "input": {"a": text}}]
    result = [{"type": "tool_result", "tool_use_id": "c", "content": text}]
    claude = [
        {"messages": _said(text)},
        {"messages": _said("a"), "system": text},
        {"messages": _said("a"), "tools": [claude_tool]},
        {"messages": _said("a"), "tools": [{**claude_tool, "description": "a", "input_examples": [{"a": text}]}]},
        {"messages": [*_said("a"), {"role": "assistant", "content": calls}, {"role": "user", "content": result}]},
    ]
    responses = [
        {"input": text},
        {"input": "a", "instructions": text},
        {"input": "a", "tools": [{"type": "function", "name": "f", "description": text}]},
        {"input": "a", "tools": [{"type": "function", "name": "f", "output_schema": {"description": text}}]},
    ]
    prompts = [{"prompt": text}, {"prompt": text, "raw": True}, {"prompt": "a", "system": text}]
    bodies = {
        "/v1/chat/completions": [{**chat, **_ONE} for chat in chats],
        "/v1/completions": [{"prompt": text, **_ONE}, {"prompt": text, "echo": True, "logprobs": 1, **_ONE}],
        "/v1/embeddings": [{"input": text}, {"input": ["a", text]}],
        "/v1/responses": [{**one, **_ONE_OF_RESPONSES} for one in responses],
        "/v1/responses/input_tokens": responses,
        "/v1/messages": [{**one, **_ONE} for one in claude],
        "/v1/messages/count_tokens": claude,
        "/api/chat": [{**chat, "stream": False, "options": _NUM_CTX} for chat in chats],
        "/api/generate": [{**prompt, "stream": False, "options": _NUM_CTX} for prompt in prompts],
        "/api/embed": [{"input": text}, {"input": ["a", text], "options": {"num_ctx": 2000}}],
        "/api/embeddings": [{"prompt": text}],
        "/v1/render": chats,
        "/v1/tokenize": [{"text": text}, {"text": text, "control": True}],
        "/v1/detokenize": [{"token_ids": [97, 98]}],
        "/v1/score": [{"prompt": text, "continuations": ["a"]}, {"prompt": "a", "continuations": [text]}],
    }
    return {path: [{"model": "tiny", **body} for body in many] for path, many in bodies.items()}


CASES = [(path, index) for path, many in _bodies(SHORT).items() for index in range(len(many))]
READS_NO_TEXT = {"/v1/detokenize"}
HOLDS_NO_TEXT = {"/api/show", "/v1/unload"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    path = tiny_checkpoint.gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tied_head=False)
    with loqal.load(path, backend="reference", context_len=CONTEXT_LEN) as model:
        yield model


@pytest.fixture
def on_loop(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls on the event loop's thread that may take long."""
    found: list[str] = []
    for owner, names in (
        (Runtime, ("tokenize", "detokenize", "render", "embed", "score", "stream_choices", "stream_generate")),
        (Tokenizer, ("_encode_run",)),
    ):
        for name in names:
            monkeypatch.setattr(owner, name, _noting(getattr(owner, name), name, found))
    return found


def _noting(function: Any, name: str, found: list[str]) -> Any:
    def noting(*args: Any, **more: Any) -> Any:
        if threading.current_thread() is threading.main_thread():
            found.append(name)
        return function(*args, **more)

    return noting


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many characters each run of text had that was turned into tokens."""
    found: list[int] = []
    encode_run = Tokenizer._encode_run

    def counting(self: Tokenizer, text: str) -> list[int]:
        found.append(len(text))
        return encode_run(self, text)

    monkeypatch.setattr(Tokenizer, "_encode_run", counting)
    return found


def _post(model: Runtime, path: str, body: dict[str, Any]) -> httpx.Response:
    pool = ModelPool({"tiny": lambda _: model}, limit_bytes=None, resident=lambda: 0)

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(pool))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            return await client.post(path, json=body)

    return asyncio.run(send())


def test_every_route_with_a_body_is_looked_at() -> None:
    routes = {route.path for dialect in DIALECTS for route in dialect.routes if route.body is not None}
    assert routes == _bodies(SHORT).keys() | HOLDS_NO_TEXT


@pytest.mark.parametrize(("path", "index"), CASES)
def test_text_is_read_beside_the_event_loop(model: Runtime, on_loop: list[str], path: str, index: int) -> None:
    reply = _post(model, path, _bodies(SHORT)[path][index])
    assert reply.status_code == 200, reply.text
    assert not on_loop


@pytest.mark.parametrize(("path", "index"), [case for case in CASES if case[0] not in READS_NO_TEXT])
def test_a_text_far_too_long_is_refused_by_its_beginning(
    model: Runtime, on_loop: list[str], encoded: list[int], path: str, index: int
) -> None:
    reply = _post(model, path, _bodies(LONG)[path][index])
    assert reply.status_code == 400, reply.text
    assert encoded
    assert max(encoded) <= MOST_CHARS
    assert not on_loop
