"""Every request field has the support that docs/fields.md states."""

from __future__ import annotations

import ast
import contextlib
import copy
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from loqal.errors import RequestError
from loqal.server.anthropic import format as anthropic_format
from loqal.server.anthropic import parse as anthropic_parse
from loqal.server.anthropic import protocol as claude
from loqal.server.native import protocol as native_protocol
from loqal.server.ollama import parse as ollama_parse
from loqal.server.ollama import protocol as llama
from loqal.server.openai import parse as openai_parse
from loqal.server.openai import protocol as openai_protocol
from loqal.server.openai_responses import (
    format as responses_format,
)
from loqal.server.openai_responses import (
    parse as responses_parse,
)
from loqal.server.openai_responses import (
    protocol as responses_protocol,
)
from loqal.server.openai_responses import (
    routes as responses_routes,
)
from loqal.server.shared import thinking
from loqal.server.shared.body import Body, Warnings, read_body
from loqal.server.shared.errors import FieldError
from loqal.server.shared.fields import ignored, rejected, review, sampled, sampling_params, supported
from loqal.types.messages import Message
from loqal.types.sampling import SamplingParams
from request_bodies import Bodies, Case

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tools"))
import field_matrix  # noqa: E402


def _respond(body: responses_protocol.ResponseBody, warnings: Warnings) -> Any:
    writer = responses_format.ResponseWriter(
        body, "m", now=lambda: 0.0, new_id=lambda prefix: prefix, token_bytes=lambda token_id: b""
    )
    request = responses_parse.parse(body, body.model or "", warnings, find=_find)
    items = [(item["id"], item["status"]) for item in responses_routes.listed(body, lambda prefix: prefix)]
    return request, writer.response, body.store, body.include, items


def _find(identity: str) -> responses_protocol.Item:
    return responses_protocol.MessageItem(role="user", content=identity)


def _reviewed(body: BaseModel, warnings: Warnings) -> Any:
    review(body, warnings)
    return body


def _chatted(body: llama.OllamaChatBody, warnings: Warnings) -> Any:
    return ollama_parse.parse_chat(body, warnings), body.options and body.options.num_ctx


def _generated(body: llama.OllamaGenerateBody, warnings: Warnings) -> Any:
    before = [Message("user", "before")] if body.context else []
    return ollama_parse.parse_generate(body, warnings, before), body.options and body.options.num_ctx


READ: dict[type[BaseModel], Callable[[Any, Warnings], Any]] = {
    claude.MessagesBody: lambda body, warnings: (
        anthropic_parse.parse(body, warnings),
        getattr(body.thinking, "display", None),
    ),
    openai_protocol.ChatBody: lambda body, warnings: (
        openai_parse.parse(body, warnings),
        body.stream_options,
        body.service_tier,
    ),
    openai_protocol.CompletionBody: lambda body, warnings: (
        openai_parse.parse_completion(body, warnings),
        body.stream_options,
        body.echo,
    ),
    openai_protocol.EmbeddingBody: lambda body, warnings: (
        openai_parse.parse_embeddings(body, warnings),
        body.encoding_format,
    ),
    **dict.fromkeys(
        (
            native_protocol.TokenizeBody,
            native_protocol.DetokenizeBody,
            native_protocol.ScoreBody,
            native_protocol.UnloadBody,
        ),
        _reviewed,
    ),
    llama.OllamaChatBody: _chatted,
    llama.OllamaGenerateBody: _generated,
    llama.OllamaEmbedBody: _reviewed,
    llama.OllamaEmbeddingsBody: _reviewed,
    llama.OllamaShowBody: _reviewed,
    responses_protocol.ResponseBody: _respond,
}
"""How each body is read; the effect of every field shows in the result."""

AROUND: dict[type[BaseModel], list[Any]] = {
    claude.UserMessage: [
        {"role": "assistant", "content": [{"type": "tool_use", "id": i, "name": "f", "input": {}} for i in "acb"]}
    ],
    claude.ToolResultBlock: [{"type": "tool_result", "tool_use_id": "c", "content": "c"}],
    llama.ToolMessage: [
        {
            "role": "assistant",
            "tool_calls": [{"id": name, "function": {"name": name, "arguments": {}}} for name in "acb"],
        },
        {"role": "tool", "tool_call_id": "c", "content": "c"},
    ],
    responses_protocol.FunctionCallOutputItem: [
        *({"type": "function_call", "call_id": name, "name": "f", "arguments": "{}"} for name in "acb"),
        {"type": "function_call_output", "call_id": "c", "output": "c"},
    ],
}
"""What must come before an object: tool calls, and a result that is out of order."""

_PNG = "iVBORw0KGgo="

CHOSEN: dict[tuple[type[BaseModel], str], tuple[Any, Any]] = {
    (claude.Base64Image, "data"): (_PNG, "iVBORw0KGgoA"),
    (claude.UrlImage, "url"): ("data:,a", "data:,b"),
    (openai_protocol.ImageUrl, "url"): ("data:,a", "data:,b"),
    (openai_protocol.VideoUrl, "url"): ("data:,a", "data:,b"),
    (openai_protocol.ChatBody, "parallel_tool_calls"): (True, False),
    (openai_protocol.ChatBody, "response_format"): ({"type": "text"}, {"type": "json_object"}),
    (thinking.ThinkingSwitch, "type"): ("enabled", "disabled"),
    (openai_protocol.ImageUrl, "detail"): ("auto", "low"),
    (openai_protocol.FunctionCall, "arguments"): ("{}", '{"a": 1}'),
    (claude.ThinkingBlock, "signature"): (anthropic_format.sign("a"), "b"),
    (claude.OutputConfig, "effort"): ("low", "medium"),
    (responses_protocol.FunctionCallItem, "arguments"): ("{}", '{"a": 1}'),
    (responses_protocol.InputImage, "image_url"): ("data:,a", "data:,b"),
    (responses_protocol.TextConfig, "format"): ({"type": "text"}, {"type": "json_object"}),
    (responses_protocol.ReasoningItem, "encrypted_content"): ("", responses_format.encode_reasoning("a")),
}

BESIDE: dict[tuple[type[BaseModel], str], dict[str, Any]] = {
    (openai_protocol.SamplingFields, "stream_options"): {"stream": True},
    (openai_protocol.ChatBody, "top_logprobs"): {"logprobs": True},
    (openai_protocol.ChatBody, "tool_choice"): {
        "tools": [{"type": "function", "function": {"name": name}} for name in "ab"]
    },
}

ECHOED = {"text.format.description", "text.format.strict"}
"""Ignored fields that the response repeats; the request to the model is the same."""

BODIES = Bodies(AROUND, CHOSEN, BESIDE)
CASES = [(model, case) for model in READ for case in BODIES.cases(model)]


def test_the_page_is_what_the_models_say() -> None:
    assert (ROOT / "docs/fields.md").read_text() == field_matrix.render()


@pytest.mark.parametrize(("model", "case"), CASES, ids=[f"{model.__name__}-{case}" for model, case in CASES])
def test_every_field_has_the_outcome_the_page_says(model: type[BaseModel], case: Case) -> None:
    strict, lenient = Warnings(), Warnings(lenient=True)
    if case.support == "rejected":
        with pytest.raises(FieldError) as refusal:
            READ[model](model.model_validate(case.body), strict)
        assert (
            refusal.value.path.rpartition(".")[0] == case.path.rpartition(".")[0]
        )  # a rejected neighbour may be first
        READ[model](model.model_validate(case.body), lenient)
        assert any(warning.startswith(f"{case.path} was ignored: ") for warning in lenient.warnings)
    elif case.support == "ignored":
        outcome = READ[model](model.model_validate(case.body), strict)
        assert any(warning.startswith(f"{case.path}: ") for warning in strict.warnings)
        if READ[model] is not _reviewed and case.path not in ECHOED:
            assert outcome == READ[model](model.model_validate(case.other), Warnings())
    else:
        outcome = _outcome(model, case.body)
        assert outcome != _outcome(model, case.other)
        if isinstance(outcome, FieldError):
            assert outcome.path.startswith(case.path)


_STRANGE = [
    None,
    True,
    -1,
    10**30,
    1.5,
    "",
    "\x00",
    "a" * 5000,
    [],
    {},
    [[]],
    [None],
    {"type": {}},
    {"type": "x"},
    {"": 1},
]


def test_strange_values_are_answers_or_errors_of_the_request(rng: np.random.Generator) -> None:
    refused = tried = 0
    for model, case in CASES:
        for _ in range(12):
            body = copy.deepcopy(case.body)
            for _ in range(int(rng.integers(1, 4))):
                _change(body, rng)
            tried += 1
            try:
                READ[model](read_body(model, json.dumps(body).encode(), Warnings(bool(rng.integers(2)))), Warnings())
            except RequestError:
                refused += 1
    assert 0 < refused < 0.97 * tried


def _change(value: Any, rng: np.random.Generator) -> None:
    """Put something strange somewhere into an object or a list."""
    places = list(value) if isinstance(value, dict) else list(range(len(value)))
    if not places:
        return
    place = places[rng.integers(len(places))]
    if isinstance(value[place], (dict, list)) and value[place] and rng.integers(3):
        _change(value[place], rng)
    else:
        value[place] = copy.deepcopy(_STRANGE[rng.integers(len(_STRANGE))])


def _outcome(model: type[BaseModel], body: dict[str, Any]) -> Any:
    warnings = Warnings()
    try:
        return READ[model](model.model_validate(body), warnings), warnings.warnings
    except FieldError as error:
        return error


# What the code reads --------------------------------------------------------------------------------------------------

SERVER = ROOT / "src/loqal/server"
READERS = {
    "OpenAI": ("openai/routes", "openai/parse", "shared/thinking"),
    "OpenAI Responses": ("openai_responses/routes", "openai_responses/parse"),
    "Anthropic": ("anthropic/routes", "anthropic/parse"),
    "Ollama": ("ollama/routes", "ollama/parse"),
    "loqal": ("native/routes", "openai/routes", "openai/parse", "shared/thinking"),
}
"""The modules that read the requests of each dialect."""

WRITERS = {"OpenAI Responses": ("openai_responses/format",)}
"""Modules that read requests too, among much else that has fields of the same names."""

READ_BY_PYDANTIC = {"type", "role"}
"""Fields that choose among alternatives: the class that is read says what they held."""

RETURNED_WHOLE = {("OpenAI Responses", "status")}
"""Supported fields that are returned with the object that contains them."""

IGNORED_YET_READ = {("OllamaChatBody", "keep_alive"), ("OllamaGenerateBody", "keep_alive")}
"""In a request without a prompt it unloads the model; it is ignored in every request that is answered."""


def _objects(dialect: str) -> set[type[BaseModel]]:
    """All objects of a dialect's requests."""
    left, seen = list(field_matrix.DIALECTS[dialect].values()), set[type[BaseModel]]()
    while left:
        model = left.pop()
        if model not in seen:
            seen.add(model)
            for name in _fields(model, "supported"):
                left += field_matrix.objects_in(model.model_fields[name].annotation)
    return seen


def _fields(model: type[BaseModel], support: str) -> set[str]:
    return {name for name in model.model_fields if field_matrix.support_of(model, name)[0] == support}


def _attributes(tree: ast.AST) -> Iterator[tuple[str | None, str]]:
    """The attributes that code reads, and of which variable each is, where it is one of a variable."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=value, attr=name, ctx=ast.Load()):
                yield value.id if isinstance(value, ast.Name) else None, name
            case ast.MatchClass(kwd_attrs=names):
                yield from ((None, name) for name in names)
            case ast.Call(func=ast.Name(id="getattr"), args=[value, ast.Constant(value=str(name)), *_]):
                yield value.id if isinstance(value, ast.Name) else None, name
            case ast.For(target=ast.Name(id="name"), iter=ast.Tuple(elts=elements)):  # whose body has a getattr
                yield from ((None, one.value) for one in elements if isinstance(one, ast.Constant))


def _trees(modules: Iterable[str]) -> list[ast.Module]:
    return [ast.parse((SERVER / f"{module}.py").read_text()) for module in modules]


def _read_of(trees: Sequence[ast.Module], model: type[BaseModel]) -> set[str]:
    """The attributes of parameters that are annotated as this model or as a base of it."""
    kinds, found = {base.__name__ for base in model.__mro__}, set[str]()
    for tree in trees:
        for function in ast.walk(tree):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                parameters = {
                    parameter.arg
                    for parameter in function.args.args
                    if parameter.annotation is not None
                    and kinds & set(re.findall(r"\w+", ast.unparse(parameter.annotation)))
                }
                found |= {name for variable, name in _attributes(function) if variable in parameters}
    return found


@pytest.mark.parametrize("dialect", READERS)
def test_no_ignored_field_is_read(dialect: str) -> None:
    trees, objects = _trees(READERS[dialect]), _objects(dialect)
    bodies = set(field_matrix.DIALECTS[dialect].values())
    for model in bodies:
        found = _fields(model, "ignored") & _read_of([*trees, *_trees(WRITERS.get(dialect, ()))], model)
        assert {(model.__name__, name) for name in found} <= IGNORED_YET_READ
    supported = set[str]().union(*(_fields(model, "supported") for model in objects))
    read = {name for tree in trees for _, name in _attributes(tree)}
    for model in objects - bodies:  # of names that have both kinds of support, the outcomes above tell
        assert not (_fields(model, "ignored") - supported) & read, model


@pytest.mark.parametrize("dialect", READERS)
def test_every_supported_field_is_read(dialect: str) -> None:
    trees = _trees([*READERS[dialect], *WRITERS.get(dialect, ())])
    read = {name for tree in trees for _, name in _attributes(tree)} | READ_BY_PYDANTIC
    if any(isinstance(node, ast.Name) and node.id == "sampling_params" for tree in trees for node in ast.walk(tree)):
        read |= SamplingParams.__dataclass_fields__.keys()
    for model in _objects(dialect):
        for name in _fields(model, "supported") - read:
            inner = list(field_matrix.objects_in(model.model_fields[name].annotation))
            only_reviewed = inner and not any(_fields(one, "supported") - READ_BY_PYDANTIC for one in inner)
            assert only_reviewed or (dialect, name) in RETURNED_WHOLE, f"{model.__name__}.{name}"


class _Sampling(Body):
    temperature: float | None = sampled("temperature", "w", le=2)
    top_p: float | None = sampled("top_p", "w")
    top_k: int | None = ignored("w")
    min_p: float | None = rejected("w")
    stop_token_ids: list[int] | None = supported("w")
    logprobs: bool | None = supported("w")


def test_sampling_parameters_come_from_supported_fields_of_the_same_name() -> None:
    body = _Sampling(temperature=0.5, top_k=5, min_p=0.5, stop_token_ids=[1], logprobs=True)
    expected = SamplingParams(temperature=0.5, stop_token_ids=(1,), logprobs=3, max_tokens=4)
    assert sampling_params(body, logprobs=3, max_tokens=4) == expected
    assert sampling_params(None) == SamplingParams()


@pytest.mark.parametrize(
    ("name", "value", "is_valid"),
    [
        ("temperature", 2.0, True),
        ("temperature", 2.5, False),
        ("temperature", -0.5, False),
        ("top_p", 1.0, True),
        ("top_p", 0.0, False),
        ("top_p", 1.5, False),
    ],
)
def test_ranges_are_those_of_the_parameters_or_narrower(name: str, value: float, is_valid: bool) -> None:
    with contextlib.nullcontext() if is_valid else pytest.raises(ValidationError):
        _Sampling(**{name: value})


def test_every_dialect_of_the_page_is_looked_at() -> None:
    assert READERS.keys() == field_matrix.DIALECTS.keys()
