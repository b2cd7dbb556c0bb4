"""Requests of the Responses API as ours. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from loqal.server.openai_responses import protocol as fields
from loqal.server.openai_responses.format import unhidden, wants_logprobs
from loqal.server.shared.conversation import TEXT_BEHIND_CALL, Result, in_call_order, settled
from loqal.server.shared.errors import FieldError
from loqal.server.shared.fields import review
from loqal.server.shared.generation_request import ChatRequest, Warnings, media_part
from loqal.server.shared.thinking import BUDGETS
from loqal.types.messages import Message, Part, TextPart, ToolCall
from loqal.types.reply_options import AnswerFormat, JsonSchema, NamedTool, ReplyOptions, Thinking, Tool, ToolChoice
from loqal.types.sampling import SamplingParams

PRIORITIES = {"flex": 10, "priority": -10}
"""Of service tiers; the lowest is served first."""

_LOW_DETAIL_TOKENS = 256
_INCLUDED = ("message.output_text.logprobs", "reasoning.encrypted_content", "message.input_image.image_url")
Find = Callable[[str], fields.Item | None]
"""An item of a stored response by its id."""


def parse(
    body: fields.InputTokensBody,
    model: str,
    warnings: Warnings,
    before: Sequence[Message] = (),
    find: Find = lambda _: None,
) -> tuple[ChatRequest, tuple[Message, ...]]:
    """What a request asks for, after an earlier conversation, and the conversation so far without its instructions.

    Raises FieldError.
    """
    review(body, warnings)
    conversation = _conversation(body, before, find, warnings)
    instructions = [] if body.instructions is None else [Message("system", body.instructions)]
    asked = ChatRequest(model, settled([*instructions, *conversation], "input", warnings), turn=_turn(body))
    if not isinstance(body, fields.ResponseBody):
        return asked, tuple(conversation)
    for index, name in enumerate(body.include or ()):
        if name not in _INCLUDED:
            warnings.warn(f"include[{index}]", "Nothing like that is made here.")
    asked = replace(
        asked,
        params=_sampling(body),
        stream=bool(body.stream),
        priority=PRIORITIES.get(body.service_tier or "", 0),
        user=body.safety_identifier or body.user or "",
    )
    return asked, tuple(conversation)


def _conversation(
    body: fields.InputTokensBody, before: Sequence[Message], find: Find, warnings: Warnings
) -> list[Message]:
    """The messages of a request: those of the response it follows, and its own."""
    reading = _ItemReader(list(before), find, warnings)
    if isinstance(body.input, str):
        reading.messages.append(Message("user", body.input))
    else:
        for index, item in enumerate(body.input or ()):
            reading.add(item, f"input[{index}]")
        reading.close()
    return reading.messages


@dataclass(slots=True)
class _ItemReader:
    """Items to messages. What the assistant said in several items is one message, as are the results that follow."""

    messages: list[Message]
    find: Find
    warnings: Warnings
    parts: list[Part] = field(default_factory=list)  # of the assistant's open turn
    reasoning: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)

    def add(self, item: fields.Item, path: str) -> None:
        """Read one item."""
        if not isinstance(item, fields.FunctionCallOutputItem):
            self._close_results()
        match item:
            case fields.ItemReference(id=identity):
                found = self.find(identity)
                if found is None:
                    raise FieldError(f"{path}.id", f"No stored response wrote the item {identity!r}.", "Send the item.")
                self.add(found, path)
            case fields.MessageItem(role="assistant"):
                if self.calls:
                    self.warnings.warn(path, TEXT_BEHIND_CALL)
                self.parts += self._content(item.content, f"{path}.content")
            case fields.MessageItem(role=role):
                self._close_turn()
                content = self._content(item.content, f"{path}.content")
                self.messages.append(Message("user" if role == "user" else "system", content))
            case fields.ReasoningItem():
                if self.parts or self.calls:
                    self._close_turn()
                self.reasoning += self._reasoned(item, path)
            case fields.FunctionCallItem():
                self.calls.append(ToolCall(item.name, _arguments(item, path), item.call_id))
            case fields.FunctionCallOutputItem():
                self._close_turn()
                message = Message("tool", self._content(item.output, f"{path}.output"))
                self.results.append(Result(f"{path}.call_id", item.call_id, message))

    def close(self) -> None:
        """Read the end."""
        self._close_results()
        self._close_turn()

    def _close_turn(self) -> None:
        if self.parts or self.reasoning or self.calls:
            reasoning = "\n".join(self.reasoning)
            self.messages.append(Message("assistant", self.parts, reasoning, self.calls))
            self.parts, self.reasoning, self.calls = [], [], []

    def _close_results(self) -> None:
        self.messages += in_call_order(self.messages, self.results)
        self.results = []

    def _reasoned(self, item: fields.ReasoningItem, path: str) -> list[str]:
        if item.content:
            return [part.text for part in item.content]
        if item.encrypted_content is None:
            return []
        reasoning = unhidden(item.encrypted_content)
        if reasoning is None:
            self.warnings.warn(f"{path}.encrypted_content", "It was not written here and cannot be read.")
        return [reasoning] if reasoning else []

    def _content(self, content: str | Sequence[fields.AnyPart], path: str) -> list[Part]:
        if isinstance(content, str):
            return [TextPart(content)]
        parts: list[Part] = []
        for index, part in enumerate(content):
            match part:
                case fields.InputText(text=text) | fields.OutputText(text=text) | fields.OutputRefusal(refusal=text):
                    parts.append(TextPart(text))
                case fields.InputImage(image_url=url, detail=detail):
                    bound = _LOW_DETAIL_TOKENS if detail == "low" else None
                    parts.append(media_part("image", url, f"{path}[{index}].image_url", max_tokens=bound))
        return parts


def _arguments(item: fields.FunctionCallItem, path: str) -> dict[str, Any]:
    try:
        arguments = json.loads(item.arguments or "{}")
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise FieldError(f"{path}.arguments", "It is not the JSON text of an object.", "Send it as it came.")
    return arguments


def _sampling(body: fields.ResponseBody) -> SamplingParams:
    return SamplingParams(
        max_tokens=body.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        seed=body.seed,
        logprobs=(body.top_logprobs or 0) if wants_logprobs(body) else None,
    )


def _turn(body: fields.InputTokensBody) -> ReplyOptions:
    choice, tools = body.tool_choice, _tools(body)
    if isinstance(choice, fields.ChooseAmong):
        allowed = {tool.name for tool in choice.tools}
        tools = [tool for tool in tools if tool.name in allowed]
    effort = body.reasoning.effort if body.reasoning else None
    return ReplyOptions(
        tools=tuple(tools),
        tool_choice=_tool_choice(choice),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        thinking=Thinking(None if effort is None else effort != "none", BUDGETS.get(effort or "")),
        answer=_answer(body.text),
    )


def _tools(body: fields.InputTokensBody) -> list[Tool]:
    return [
        Tool(
            tool.name,
            tool.description,
            tool.parameters,
            tool.strict is not False,
            {"output_schema": tool.output_schema} if tool.output_schema else {},
        )
        for tool in body.tools or ()
        if isinstance(tool, fields.FunctionTool)
    ]


def _tool_choice(choice: fields.ToolChoice | None) -> ToolChoice:
    match choice:
        case fields.ChooseFunction(name=name):
            return NamedTool(name)
        case fields.ChooseAmong(mode=mode):
            return mode
    return choice or "auto"


def _answer(text: fields.TextConfig | None) -> AnswerFormat | None:
    match text.format if text else None:
        case fields.SchemaFormat(schema_=schema):
            return JsonSchema(schema)
        case fields.ObjectFormat():
            return JsonSchema()
    return None
