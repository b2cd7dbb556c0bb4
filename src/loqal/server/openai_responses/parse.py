"""Requests of the Responses API as generation requests. No side effects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from loqal.server.openai_responses import protocol as fields
from loqal.server.openai_responses.format import decode_reasoning, wants_logprobs
from loqal.server.shared.body import Warnings
from loqal.server.shared.conversation import (
    TEXT_AFTER_CALL,
    ToolResult,
    arguments_of,
    in_call_order,
    media_part,
    with_one_system_message,
)
from loqal.server.shared.errors import FieldError
from loqal.server.shared.fields import review, sampling_params
from loqal.server.shared.generation_request import SERVICE_TIERS, ChatRequest
from loqal.server.shared.thinking import BUDGETS
from loqal.types.messages import Message, Part, TextPart, ToolCall
from loqal.types.reply_options import AnswerFormat, JsonSchema, NamedTool, ReplyOptions, Thinking, Tool, ToolChoice
from loqal.types.sampling import SamplingParams

_LOW_DETAIL_TOKENS = 256
_INCLUDED = ("message.output_text.logprobs", "reasoning.encrypted_content", "message.input_image.image_url")
Find = Callable[[str], fields.Item | None]
"""Finds an item of a stored response by its id."""


def parse(
    body: fields.InputTokensBody,
    model: str,
    warnings: Warnings,
    before: Sequence[Message] = (),
    find: Find = lambda _: None,
) -> tuple[ChatRequest, tuple[Message, ...]]:
    """The generation request of a body, and its conversation without the instructions. Raises FieldError.

    Args:
        model: the name of the model.
        before: the conversation of the response that this one follows.
        find: finds items that the input refers to.
    """
    review(body, warnings)
    conversation = _conversation(body, before, find, warnings)
    instructions = [] if body.instructions is None else [Message("system", body.instructions)]
    messages = with_one_system_message([*instructions, *conversation], "input", warnings)
    request = ChatRequest(model, messages, options=_reply_options(body))
    if not isinstance(body, fields.ResponseBody):
        return request, tuple(conversation)
    for index, name in enumerate(body.include or ()):
        if name not in _INCLUDED:
            warnings.warn(f"include[{index}]", "This server does not generate it.")
    request = replace(
        request,
        params=_sampling(body),
        stream=bool(body.stream),
        priority=SERVICE_TIERS.get(body.service_tier or "", 0),
        user=body.safety_identifier or body.user or "",
    )
    return request, tuple(conversation)


def _conversation(
    body: fields.InputTokensBody, before: Sequence[Message], find: Find, warnings: Warnings
) -> list[Message]:
    """The messages of the response this one follows, and of the input."""
    reader = _ItemReader(list(before), find, warnings)
    if isinstance(body.input, str):
        reader.messages.append(Message("user", body.input))
    else:
        for index, item in enumerate(body.input or ()):
            reader.add(item, f"input[{index}]")
        reader.close()
    return reader.messages


@dataclass(slots=True)
class _ItemReader:
    """Converts items to messages. Consecutive items of the assistant become one message."""

    messages: list[Message]
    find: Find
    warnings: Warnings
    parts: list[Part] = field(default_factory=list)  # of the open assistant message
    reasoning: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    results: list[ToolResult] = field(default_factory=list)

    def add(self, item: fields.Item, path: str) -> None:
        """Add one item."""
        if not isinstance(item, fields.FunctionCallOutputItem):
            self._close_results()
        match item:
            case fields.ItemReference(id=identity):
                found = self.find(identity)
                if found is None:
                    raise FieldError(
                        f"{path}.id", f"No stored response has the item {identity!r}.", "Send the item itself."
                    )
                self.add(found, path)
            case fields.MessageItem(role="assistant"):
                if self.calls:
                    self.warnings.warn(path, TEXT_AFTER_CALL)
                self.parts += self._content(item.content, f"{path}.content")
            case fields.MessageItem(role=role):
                self._close_message()
                content = self._content(item.content, f"{path}.content")
                self.messages.append(Message("user" if role == "user" else "system", content))
            case fields.ReasoningItem():
                if self.parts or self.calls:
                    self._close_message()
                self.reasoning += self._reasoned(item, path)
            case fields.FunctionCallItem():
                self.calls.append(
                    ToolCall(item.name, arguments_of(item.arguments, f"{path}.arguments", self.warnings), item.call_id)
                )
            case fields.FunctionCallOutputItem():
                self._close_message()
                message = Message("tool", self._content(item.output, f"{path}.output"))
                self.results.append(ToolResult(f"{path}.call_id", item.call_id, message))

    def close(self) -> None:
        """Complete the open message."""
        self._close_results()
        self._close_message()

    def _close_message(self) -> None:
        if self.parts or self.reasoning or self.calls:
            reasoning = "\n".join(self.reasoning)
            self.messages.append(Message("assistant", self.parts, reasoning, self.calls))
            self.parts, self.reasoning, self.calls = [], [], []

    def _close_results(self) -> None:
        self.messages += in_call_order(self.messages, self.results, self.warnings)
        self.results = []

    def _reasoned(self, item: fields.ReasoningItem, path: str) -> list[str]:
        if item.content:
            return [part.text for part in item.content]
        if item.encrypted_content is None:
            return []
        reasoning = decode_reasoning(item.encrypted_content)
        if reasoning is None:
            self.warnings.warn(f"{path}.encrypted_content", "This server did not generate it and cannot decrypt it.")
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
                    limit = _LOW_DETAIL_TOKENS if detail == "low" else None
                    parts.append(media_part("image", url, f"{path}[{index}].image_url", max_tokens=limit))
        return parts


def _sampling(body: fields.ResponseBody) -> SamplingParams:
    logprobs = (body.top_logprobs or 0) if wants_logprobs(body) else None
    return sampling_params(body, max_tokens=body.max_output_tokens, logprobs=logprobs)


def _reply_options(body: fields.InputTokensBody) -> ReplyOptions:
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
            tool.strict,
            {"output_schema": tool.output_schema} if tool.output_schema else {},
            path=f"tools[{index}].parameters",
        )
        for index, tool in enumerate(body.tools or ())
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
        case fields.SchemaFormat(schema_=schema, strict=strict):
            return JsonSchema(schema, strict, "text.format.schema")
        case fields.ObjectFormat():
            return JsonSchema()
    return None
