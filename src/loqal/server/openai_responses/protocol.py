"""The requests of OpenAI's Responses API, field by field."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from loqal.server.shared.fields import Unread, ignored, rejected, supported
from loqal.server.shared.generation_request import Body

Status = Literal["in_progress", "completed", "incomplete"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]

_NO_FILES = "no files are kept here"
_CACHE = "the prefix cache keeps every beginning by itself and reports what it saved"
_STATUS: Any = supported("comes back when the items are listed", examples=["incomplete"])
_ITEM_ID: Any = supported("comes back when the items are listed")
_CALLER: Any = rejected("tools are called by the model itself; no programs run here", neutral=({"type": "direct"},))


class InputText(Body):
    """Text."""

    type: Literal["input_text"] = supported("what kind of part this is", ...)
    text: str = supported("the text, never read as control tokens", ...)
    prompt_cache_breakpoint: dict[str, Any] | None = ignored(_CACHE)


class InputImage(Body):
    """An image."""

    type: Literal["input_image"] = supported("what kind of part this is", ...)
    image_url: str = supported("a data: URL, or an http URL where the server allows it", ...)
    file_id: str | None = rejected(_NO_FILES + "; send the image as a data: URL")
    detail: Literal["low", "high", "auto", "original"] | None = supported("low: at most 256 tokens", examples=["low"])
    prompt_cache_breakpoint: dict[str, Any] | None = ignored(_CACHE)


class InputFile(Unread):
    """A file."""

    type: Literal["input_file"] = rejected("the model reads text and images; send the text, or pages as images", ...)


class OutputText(Body):
    """Text of an earlier turn."""

    type: Literal["output_text"] = supported("what kind of part this is", ...)
    text: str = supported("the text", ...)
    annotations: list[Any] | None = ignored("where a text came from; the model reads the text alone", neutral=([],))
    logprobs: list[Any] | None = ignored("the model reads the text alone", neutral=([],))


class OutputRefusal(Body):
    """A refusal of an earlier turn."""

    type: Literal["refusal"] = supported("what kind of part this is", ...)
    refusal: str = supported("the text", ...)


InputPart = Annotated[InputText | InputImage | InputFile, Field(discriminator="type")]
AnyPart = Annotated[InputText | InputImage | InputFile | OutputText | OutputRefusal, Field(discriminator="type")]


class MessageItem(Body):
    """A turn of anybody."""

    type: Literal["message"] = supported("what kind of item this is", "message")
    role: Literal["user", "assistant", "system", "developer"] = supported("who speaks; developer is system", ...)
    content: str | list[AnyPart] = supported("text and images", ...)
    id: str | None = _ITEM_ID
    status: Status | None = _STATUS
    phase: Literal["commentary", "final_answer"] | None = ignored("the model knows no phases")


class ReasoningText(Body):
    """Reasoning in clear."""

    type: Literal["reasoning_text"] = supported("what kind of part this is", ...)
    text: str = supported("the reasoning", ...)


class ReasoningItem(Body):
    """Reasoning of an earlier turn."""

    type: Literal["reasoning"] = supported("what kind of item this is", ...)
    id: str | None = _ITEM_ID
    content: list[ReasoningText] | None = supported(
        "the reasoning, which the model reads again where its template keeps it"
    )
    encrypted_content: str | None = supported("the same as this server wrote it, for clients that keep nothing else")
    summary: list[dict[str, Any]] | None = ignored("the reasoning itself is read, not its summary", neutral=([],))
    status: Status | None = _STATUS


class FunctionCallItem(Body):
    """A call of an earlier turn."""

    type: Literal["function_call"] = supported("what kind of item this is", ...)
    call_id: str = supported("which result belongs to this call", ..., min_length=1)
    name: str = supported("the function that was called", ...)
    arguments: str = supported("the arguments as JSON text, in their order", ..., examples=['{"a": 1}'])
    id: str | None = _ITEM_ID
    status: Status | None = _STATUS
    caller: dict[str, Any] | None = _CALLER
    namespace: str | None = rejected("there are no namespaces here")
    is_async: bool | None = rejected("a turn waits for the results of its calls", alias="async", neutral=(False,))


class FunctionCallOutputItem(Body):
    """What a function answered."""

    type: Literal["function_call_output"] = supported("what kind of item this is", ...)
    call_id: str = supported("the call it answers; results are put in the order of their calls", ...)
    output: str | list[InputPart] = supported("text and images the model reads", ...)
    id: str | None = _ITEM_ID
    status: Status | None = _STATUS
    caller: dict[str, Any] | None = _CALLER
    name: str | None = ignored("the call it answers has the name")
    namespace: str | None = rejected("there are no namespaces here")


class ItemReference(Body):
    """An item of an earlier response, by its id."""

    type: Literal["item_reference"] = supported("what kind of item this is", ...)
    id: str = supported("an item that a stored response wrote", ...)


class ForeignItem(Unread):
    """An item of something that does not run here."""

    type: str = rejected("what it belongs to does not run here, and the model was not trained on it", ...)


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
    """A function the model may call."""

    type: Literal["function"] = supported("functions of the caller only", ...)
    name: str = supported("the function's name", ..., pattern=r"^[a-zA-Z0-9_.-]{1,128}$")
    description: str | None = supported("shown to the model")
    parameters: dict[str, Any] | None = supported("JSON schema of the arguments", examples=[{"type": "object"}])
    strict: bool | None = supported(
        "whether the arguments must satisfy the schema; true unless said otherwise", examples=[False]
    )
    output_schema: dict[str, Any] | None = supported("shown to the model", examples=[{"type": "string"}])
    defer_loading: bool | None = rejected("every tool is shown to the model from the start", neutral=(False,))
    allowed_callers: list[str] | None = rejected(
        "tools are called by the model itself; no programs run here", neutral=(["direct"],), examples=[["programmatic"]]
    )
    is_async: bool | None = rejected("a turn waits for the results of its calls", alias="async", neutral=(False,))


class ForeignTool(Unread):
    """A tool that would run on the server."""

    type: str = rejected("no searches, programs or other servers run here; offer a function", ...)


def _kind_of_tool(value: Any) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "function" if kind in (None, "function") else "foreign"


Tool = Annotated[
    Annotated[FunctionTool, Tag("function")] | Annotated[ForeignTool, Tag("foreign")], Discriminator(_kind_of_tool)
]


class ChooseFunction(Body):
    """One function is called."""

    type: Literal["function"] = supported("the named function must be called", ...)
    name: str = supported("the function to call", ..., examples=["look"])


class ChooseAmong(Body):
    """Some functions only."""

    type: Literal["allowed_tools"] = supported("only these tools are shown to the model", ...)
    mode: Literal["auto", "required"] = supported("whether one of them must be called", ...)
    tools: list[ChooseFunction] = supported("the tools", ...)


ToolChoice = Literal["none", "auto", "required"] | Annotated[ChooseFunction | ChooseAmong, Field(discriminator="type")]


class Reasoning(Body):
    """Whether and how much to reason."""

    effort: Effort | None = supported(
        "none answers at once, the others are budgets; absent: as the model's template says"
    )
    summary: Literal["auto", "concise", "detailed"] | None = ignored("the reasoning itself is given, not a summary")
    generate_summary: Literal["auto", "concise", "detailed"] | None = ignored("the older name of summary")
    context: Literal["auto", "current_turn", "all_turns"] | None = ignored(
        "the model's template says what it reads again"
    )
    mode: str | None = rejected("there is one mode here", neutral=("standard",))


class PlainFormat(Body):
    """Text."""

    type: Literal["text"] = supported("the answer is text", ...)


class ObjectFormat(Body):
    """Any JSON object."""

    type: Literal["json_object"] = supported("the answer is a JSON object", ...)


class SchemaFormat(Body):
    """JSON of a schema."""

    type: Literal["json_schema"] = supported("the answer is JSON", ...)
    name: str = supported("comes back with the response", ..., pattern=r"^[a-zA-Z0-9_-]{1,64}$")
    schema_: dict[str, Any] = supported("the schema the answer satisfies", ..., alias="schema", examples=[{}])
    description: str | None = ignored("the model does not see it; say it in the instructions")
    strict: bool | None = ignored("the schema always holds", neutral=(True,), examples=[False])


class TextConfig(Body):
    """The form of the answer."""

    format: Annotated[PlainFormat | ObjectFormat | SchemaFormat, Field(discriminator="type")] | None = supported(
        "text, a JSON object, or JSON of a schema"
    )
    verbosity: Literal["low", "medium", "high"] | None = rejected("say it in the instructions", neutral=("medium",))


class StreamOptions(Body):
    """How to stream."""

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
    """Body of POST /v1/responses/input_tokens."""

    model: str | None = supported("which of the served models answers; may be left out when there is one")
    input: str | list[Item] | None = supported("what the user says, or the items of a conversation")
    instructions: str | None = supported(
        "instructions before the conversation; those of earlier responses are left out"
    )
    previous_response_id: str | None = supported("the response this one follows, with the exact tokens it wrote")
    reasoning: Reasoning | None = supported("see its fields")
    text: TextConfig | None = supported("see its fields")
    tools: list[Tool] | None = supported("functions the model may call")
    tool_choice: ToolChoice | None = supported("whether and which tool is called")
    parallel_tool_calls: bool | None = supported(
        "whether a turn may call several tools; true unless said otherwise", examples=[False]
    )
    truncation: Literal["auto", "disabled"] | None = rejected(
        "what does not fit is rejected with both counts", neutral=("disabled",), examples=["auto"]
    )
    conversation: str | dict[str, Any] | None = rejected("conversations are not kept; follow previous_response_id")
    personality: str | None = rejected("say it in the instructions")


class ResponseBody(InputTokensBody):
    """Body of POST /v1/responses."""

    stream: bool | None = supported("send the response while it is written")
    stream_options: StreamOptions | None = supported("see its fields")
    store: bool | None = supported("keep the response for later requests, in memory; true unless said otherwise")
    background: bool | None = supported("answer at once with a response to ask for later")
    include: list[Include] | None = supported("log probabilities, or reasoning to send back", examples=[[]])
    max_output_tokens: int | None = supported("most tokens of reasoning, calls and answer together", ge=1)
    temperature: float | None = supported("0 picks the likeliest token", ge=0, le=2)
    top_p: float | None = supported("sample among the likeliest tokens that sum to p", gt=0, le=1)
    top_logprobs: int | None = supported("log probabilities of as many of the likeliest in each place", ge=0, le=20)
    metadata: dict[str, str] | None = supported("kept with the response", max_length=16, examples=[{"a": "b"}])
    seed: int | None = supported("seed of the sampling noise; an addition of loqal's")
    max_tool_calls: int | None = ignored("it counts calls of built-in tools, and there are none")
    user: str | None = supported("users of one key share the machine evenly")
    safety_identifier: str | None = supported("the same as user, and before it")
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = supported(
        "priority is served before others and flex after them"
    )
    prompt_cache_key: str | None = ignored(_CACHE)
    prompt_cache_retention: Literal["in_memory", "24h"] | None = ignored("states are kept while there is room for them")
    prompt_cache_options: dict[str, Any] | None = ignored(_CACHE)
    access_programs: dict[str, Any] | None = ignored("there are no programs of access here")
    background_options: dict[str, Any] | None = ignored("requests are served in their order")
    context_management: list[dict[str, Any]] | None = rejected("a conversation is never shortened", neutral=([],))
    image: dict[str, Any] | None = rejected("images are read as they are")
    moderation: dict[str, Any] | None = rejected("nothing judges texts here")
    prompt: dict[str, Any] | None = rejected("no prompts are kept here; send the text")
