"""Writes docs/fields.md: every field of every dialect, and what becomes of it. A test compares the file with this."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from loqal.server.anthropic import protocol as anthropic_protocol
from loqal.server.native import routes as native_routes
from loqal.server.ollama import protocol as ollama_protocol
from loqal.server.openai import protocol as openai_protocol
from loqal.server.openai_responses import protocol as responses_protocol

DIALECTS: dict[str, dict[str, type[BaseModel]]] = {
    "OpenAI": {
        "POST /v1/chat/completions": openai_protocol.ChatBody,
        "POST /v1/completions": openai_protocol.CompletionBody,
        "POST /v1/embeddings": openai_protocol.EmbeddingBody,
    },
    "OpenAI Responses": {
        "POST /v1/responses": responses_protocol.ResponseBody,
        "POST /v1/responses/input_tokens": responses_protocol.InputTokensBody,
    },
    "Anthropic": {
        "POST /v1/messages": anthropic_protocol.MessagesBody,
        "POST /v1/messages/count_tokens": anthropic_protocol.CountTokensBody,
    },
    "Ollama": {
        "POST /api/chat": ollama_protocol.OllamaChatBody,
        "POST /api/generate": ollama_protocol.OllamaGenerateBody,
        "POST /api/embed": ollama_protocol.OllamaEmbedBody,
        "POST /api/embeddings": ollama_protocol.OllamaEmbeddingsBody,
        "POST /api/show": ollama_protocol.OllamaShowBody,
    },
    "loqal": {
        "POST /v1/render": native_routes.RenderBody,
        "POST /v1/tokenize": native_routes.TokenizeBody,
        "POST /v1/detokenize": native_routes.DetokenizeBody,
        "POST /v1/score": native_routes.ScoreBody,
        "POST /v1/unload": native_routes.UnloadBody,
    },
}
"""The requests of each dialect by their routes."""

_PREFACE = """# Fields

Every field of every dialect, and what becomes of it. This page is written by `tools/field_matrix.py` from the models
that read the requests.

- **supported**: it does what the dialect documents. A value that cannot be obeyed is an error with its JSON path.
- **rejected**: the caller would get something else than asked for. An error with its JSON path; a lenient caller gets
  a line in `warnings` instead, and the field is ignored.
- **ignored**: no answer depends on it here. The reply's `warnings` say so.

A field that is not listed is unknown, and treated as a rejected one.
"""


def objects_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The objects a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from objects_in(argument)


def support_of(model: type[BaseModel], name: str) -> tuple[str, str]:
    """What becomes of a field, and why."""
    support, _, why = (model.model_fields[name].description or "").partition(": ")
    return support.lower(), why.removesuffix(".")


def render() -> str:
    """The whole page."""
    lines = [_PREFACE]
    for dialect, routes in DIALECTS.items():
        lines += [f"## {dialect}", ""]
        seen: set[type[BaseModel]] = set()
        for route, model in routes.items():
            lines += [f"### {route}", "", *_table(model)]
            seen.add(model)
        for model in list(routes.values()):
            for inner in _below(model, seen):
                lines += [f"### {inner.__name__}", "", inner.__doc__ or "", "", *_table(inner)]
    return "\n".join(lines)


def _below(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    """The objects below a request that are read, each once, in the order of the fields."""
    for name, field in model.model_fields.items():
        if support_of(model, name)[0] != "supported":
            continue
        for inner in objects_in(field.annotation):
            if inner not in seen:
                seen.add(inner)
                yield inner
                yield from _below(inner, seen)


def _table(model: type[BaseModel]) -> list[str]:
    rows = ["| field | support | |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        support, why = support_of(model, name)
        rows.append(f"| `{field.alias or name}` | {support} | {why.replace('|', chr(92) + '|')} |")
    return [*rows, ""]


if __name__ == "__main__":
    Path("docs/fields.md").write_text(render())
