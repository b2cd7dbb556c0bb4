"""The request bodies of the Responses API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from loqal.server.shared.body import Body
from loqal.server.shared.fields import Unread, ignored, rejected, sampled, supported

Status = Literal["in_progress", "completed", "incomplete"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

_NO_FILES = "the server stores no files"
_CACHE = "the prefix cache is automatic; usage reports the cached tokens"
_NO_NAMESPACES = "the server has no namespaces"
_NO_ASYNC = "the model waits for the results of its calls"
_TYPE = "the type of this object"
_STATUS: Any = supported("returned when the input items are listed", examples=["incomplete"])
_ITEM_ID: Any = supported("returned when the input items are listed")
_ONLY_MODEL = "only the model calls tools; the server runs no code"
_CALLER: Any = rejected(_ONLY_MODEL, neutral=({"type": "direct"},))


class InputText(Body):
    """An input text part."""

    type: Literal["input_text"] = supported(_TYPE, ...)
    text: str = supported("the text; names of control tokens in it are plain text", ...)
    prompt_cache_breakpoint: dict[str, Any] | None = ignored(_CACHE)


class InputImage(Body):
    """An input image part."""

    type: Literal["input_image"] = supported(_TYPE, ...)
    image_url: str = supported("a data: URL, or an http(s) URL if the server allows it", ...)
    file_id: str | None = rejected(_NO_FILES + "; send the image as a data: URL")
    detail: Literal["low", "high", "auto", "original"] | None = supported(
        "low limits the image to 256 tokens", examples=["low"]
    )
    prompt_cache_breakpoint: dict[str, Any] | None = ignored(_CACHE)


class InputFile(Unread):
    """An input file part."""

    type: Literal["input_file"] = rejected("the model reads text and images; send text, or the pages as images", ...)


class OutputText(Body):
    """A text part of an earlier output."""

    type: Literal["output_text"] = supported(_TYPE, ...)
    text: str = supported("the text", ...)
    annotations: list[Any] | None = ignored("the model reads the text without its annotations", neutral=([],))
    logprobs: list[Any] | None = ignored("the model reads the text without its log probabilities", neutral=([],))


class OutputRefusal(Body):
    """A refusal of an earlier output."""

    type: Literal["refusal"] = supported(_TYPE, ...)
    refusal: str = supported("the text", ...)


InputPart = Annotated[InputText | InputImage | InputFile, Field(discriminator="type")]
AnyPart = Annotated[InputText | InputImage | InputFile | OutputText | OutputRefusal, Field(discriminator="type")]


class MessageItem(Body):
    """A message."""

    type: Literal["message"] = supported(_TYPE, "message")
    role: Literal["user", "assistant", "system", "developer"] = supported(
        "the role of the message; developer is the same as system", ...
    )
    content: str | list[AnyPart] = supported("the content: text and images", ...)
    id: str | None = _ITEM_ID
    status: Status | None = _STATUS
    phase: Literal["commentary", "final_answer"] | None = ignored("the chat template has no phases")


class ReasoningText(Body):
    """A reasoning text part."""

    type: Literal["reasoning_text"] = supported(_TYPE, ...)
    text: str = supported("the reasoning", ...)


class ReasoningItem(Body):
    """A reasoning item of an earlier output."""

    type: Literal["reasoning"] = supported(_TYPE, ...)
    id: str | None = _ITEM_ID
    content: list[ReasoningText] | None = supported("the reasoning, which the chat template may keep in the prompt")
    encrypted_content: str | None = supported("the same reasoning as this server returned it in encrypted_content")
    summary: list[dict[str, Any]] | None = ignored("the model reads the reasoning itself, not a summary", neutral=([],))
    status: Status | None = _STATUS


class FunctionCallItem(Body):
    """A function call of an earlier output."""

    type: Literal["function_call"] = supported(_TYPE, ...)
    call_id: str = supported("the id that its output item refers to", ..., min_length=1)
    name: str = supported("the name of the function", ...)
    arguments: str = supported("the arguments, a JSON object in a string", ..., examples=['{"a": 1}'])
    id: str | None = _ITEM_ID
    status: Status | None = _STATUS
    caller: dict[str, Any] | None = _CALLER
    namespace: str | None = rejected(_NO_NAMESPACES)
    is_async: bool | None = rejected(_NO_ASYNC, alias="async", neutral=(False,))


class FunctionCallOutputItem(Body):
    """The output of a function call."""

    type: Literal["function_call_output"] = supported(_TYPE, ...)
    call_id: str = supported("the function call of this output; outputs are read in the order of the calls", ...)
    output: str | list[InputPart] = supported("the output: text and images", ...)
    id: str | None = _ITEM_ID
    status: Status | None = _STATUS
    caller: dict[str, Any] | None = _CALLER
    name: str | None = ignored("the function call has the name of the function")
    namespace: str | None = rejected(_NO_NAMESPACES)


class ItemReference(Body):
    """A reference to an item of a stored response."""

    type: Literal["item_reference"] = supported(_TYPE, ...)
    id: str = supported("the id of an output item of a stored response", ...)


class ForeignItem(Unread):
    """An item of a tool that the server does not have."""

    type: str = rejected("the server does not have its tool, and the model was not trained on it", ...)


_ITEMS = {"message", "reasoning", "function_call", "function_call_output", "item_reference"}


def _kind_of_item(value: Any) -> str:
    kind = value.get("type", "message") if isinstance(value, dict) else getattr(value, "type", "message")
    return kind if isinstance(kind, str) and kind in _ITEMS else "foreign"


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[ReasoningItem, Tag("reasoning")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionCallOutputItem, Tag("function_call_output")]
    | Annotated[ItemReference, Tag("item_reference")]
    | Annotated[ForeignItem, Tag("foreign")],
    Discriminator(_kind_of_item),
]


class FunctionTool(Body):
    """The definition of a function that the model may call."""

    type: Literal["function"] = supported("the type of this object; other types of tools are rejected", ...)
    name: str = supported("the name of the function", ..., pattern=r"^[a-zA-Z0-9_.-]{1,128}$")
    description: str | None = supported("the description that the model reads")
    parameters: dict[str, Any] | None = supported("the JSON schema of the arguments", examples=[{"type": "object"}])
    strict: bool | None = supported(
        "true rejects a schema that cannot be enforced completely, false does not enforce it", examples=[False]
    )
    output_schema: dict[str, Any] | None = supported(
        "the JSON schema of the output, which the model reads", examples=[{"type": "string"}]
    )
    defer_loading: bool | None = rejected("the prompt always has all tools", neutral=(False,))
    allowed_callers: list[str] | None = rejected(_ONLY_MODEL, neutral=(["direct"],), examples=[["programmatic"]])
    is_async: bool | None = rejected(_NO_ASYNC, alias="async", neutral=(False,))


class ForeignTool(Unread):
    """A tool that runs on the server."""

    type: str = rejected("the server has no built-in tools; define a function instead", ...)


def _kind_of_tool(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "function" if kind in (None, "function") else "foreign"


Tool = Annotated[
    Annotated[FunctionTool, Tag("function")] | Annotated[ForeignTool, Tag("foreign")], Discriminator(_kind_of_tool)
]


class ChooseFunction(Body):
    """One function is called."""

    type: Literal["function"] = supported("the named function must be called", ...)
    name: str = supported("the name of the function", ..., examples=["look"])


class ChooseAmong(Body):
    """A tool choice limited to a subset of the tools."""

    type: Literal["allowed_tools"] = supported("the model sees only these tools", ...)
    mode: Literal["auto", "required"] = supported("whether one of these tools must be called", ...)
    tools: list[ChooseFunction] = supported("the allowed tools", ...)


ToolChoice = Literal["none", "auto", "required"] | Annotated[ChooseFunction | ChooseAmong, Field(discriminator="type")]


class Reasoning(Body):
    """Reasoning effort."""

    effort: Effort | None = supported(
        "none disables thinking, the others are token budgets; by default as the chat template does"
    )
    summary: Literal["auto", "concise", "detailed"] | None = ignored("the full reasoning is returned, not a summary")
    generate_summary: Literal["auto", "concise", "detailed"] | None = ignored(
        "the full reasoning is returned, not a summary"
    )
    context: Literal["auto", "current_turn", "all_turns"] | None = ignored(
        "the chat template determines which reasoning stays in the prompt"
    )
    mode: str | None = rejected("the server has one reasoning mode", neutral=("standard",))


class PlainFormat(Body):
    """Text output."""

    type: Literal["text"] = supported("unconstrained text", ...)


class ObjectFormat(Body):
    """JSON output."""

    type: Literal["json_object"] = supported("the output is constrained to a JSON object", ...)


class SchemaFormat(Body):
    """JSON output that satisfies a schema."""

    type: Literal["json_schema"] = supported("the output is constrained to a JSON schema", ...)
    name: str = supported("returned in the response", ..., pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: dict[str, Any] = supported("the JSON schema", ..., alias="schema", examples=[{}])
    description: str | None = ignored("the model does not read it; put it into the instructions")
    strict: bool | None = supported("whether a schema that cannot be enforced completely is rejected")


class TextConfig(Body):
    """The format of the output."""

    format: Annotated[PlainFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")] | None = supported(
        "text, a JSON object, or JSON that satisfies a schema"
    )
    verbosity: Literal["low", "medium", "high"] | None = rejected(
        "the model has no verbosity setting; put it into the instructions", neutral=("medium",)
    )


class StreamOptions(Body):
    """Options of streaming."""

    include_obfuscation: bool | None = ignored("events are not padded", neutral=(False,))


Include = Literal[
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
]


class InputTokensBody(Body):
    """The body of POST /v1/responses/input_tokens."""

    model: str | None = supported("the name of a served model; optional if the server has one model")
    input: str | list[Item] | None = supported("a user message, or the items of a conversation")
    instructions: str | None = supported("the system message; the instructions of previous responses are not used")
    previous_response_id: str | None = supported("the response to continue, with its exact generated tokens")
    reasoning: Reasoning | None = supported("see its fields")
    text: TextConfig | None = supported("see its fields")
    tools: list[Tool] | None = supported("the functions that the model may call")
    tool_choice: ToolChoice | None = supported("whether tools are called, and which")
    parallel_tool_calls: bool | None = supported(
        "whether a response may have several tool calls; true by default", examples=[False]
    )
    truncation: Literal["auto", "disabled"] | None = rejected(
        "input that exceeds the context is rejected with an error", neutral=("disabled",), examples=["auto"]
    )
    conversation: str | dict[str, Any] | None = rejected(
        "conversation objects are not supported; use previous_response_id"
    )
    personality: str | None = rejected("the model has no such setting; put it into the instructions")


class ResponseBody(InputTokensBody):
    """The body of POST /v1/responses."""

    stream: bool | None = supported("whether to stream the response")
    stream_options: StreamOptions | None = supported("see its fields")
    store: bool | None = supported("whether to store the response in memory for later requests; true by default")
    background: bool | None = supported("return immediately; retrieve the response later")
    include: list[Include] | None = supported(
        "additional output: log probabilities, encrypted_content of the reasoning", examples=[[]]
    )
    max_output_tokens: int | None = sampled(
        "max_tokens", "maximum number of tokens to generate, reasoning and tool calls included"
    )
    temperature: float | None = sampled(
        "temperature", "sampling temperature, up to 2 as in OpenAI's API; 0 selects the most likely token", le=2
    )
    top_p: float | None = sampled("top_p", "nucleus sampling: cumulative probability of the tokens to sample from")
    top_logprobs: int | None = sampled(
        "logprobs", "number of most likely tokens to return at each position, up to 20 as in OpenAI's API", le=20
    )
    metadata: dict[str, str] | None = supported("returned with the response", max_length=16, examples=[{"a": "b"}])
    seed: int | None = sampled("seed", "sampling seed (extension)")
    max_tool_calls: int | None = ignored("it limits built-in tools, which the server does not have")
    user: str | None = supported("the end user; users of one API key get equal shares of the machine")
    safety_identifier: str | None = supported("the same as user, which it overrides")
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = supported(
        "priority is served before other requests, flex after them"
    )
    prompt_cache_key: str | None = ignored(_CACHE)
    prompt_cache_retention: Literal["in_memory", "24h"] | None = ignored(
        "the prefix cache keeps the most recently used prompts"
    )
    prompt_cache_options: dict[str, Any] | None = ignored(_CACHE)
    access_programs: dict[str, Any] | None = ignored("the server has no access programs")
    background_options: dict[str, Any] | None = ignored("background responses are served like other requests")
    context_management: list[dict[str, Any]] | None = rejected(
        "conversations are never shortened; a longer one is rejected", neutral=([],)
    )
    image: dict[str, Any] | None = rejected("input images are always scaled to the limits of the model")
    moderation: dict[str, Any] | None = rejected("the server has no moderation")
    prompt: dict[str, Any] | None = rejected("the server stores no prompt templates; send the text")
