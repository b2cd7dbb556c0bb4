"""loqal: a local runtime for the Qwen 3.5 model family.

    import loqal

    with loqal.load() as model:
        print(model.chat([{"role": "user", "content": "Hello!"}]).text)

Importing this package opens no file and loads nothing heavy: every name below is fetched when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .async_runtime import AsyncRuntime, load_async
    from .errors import (
        CapacityError,
        CheckpointError,
        ContextError,
        FormatError,
        InstallationError,
        LoqalError,
        MediaError,
        RequestError,
        TensorError,
        UnsupportedError,
    )
    from .model_info import ModelInfo
    from .reply_stream import ReplyStream
    from .runtime import Runtime, inspect, load, media_info, plan
    from .turns import (
        AnswerFormat,
        Grammar,
        JsonSchema,
        NamedTool,
        OneOf,
        Regex,
        Thinking,
        Tool,
        ToolChoice,
        Turn,
    )
    from .types import (
        FinishReason,
        MediaInfo,
        MediaPart,
        Message,
        Rendered,
        RenderedSegment,
        Reply,
        ReplyDelta,
        SamplingParams,
        TextPart,
        Timings,
        TokenLogprobs,
        ToolCall,
        ToolCallDelta,
        Usage,
    )

__version__ = "0.1.0"

__all__ = [
    "AnswerFormat",
    "AsyncRuntime",
    "CapacityError",
    "CheckpointError",
    "ContextError",
    "FinishReason",
    "FormatError",
    "Grammar",
    "InstallationError",
    "JsonSchema",
    "LoqalError",
    "MediaError",
    "MediaInfo",
    "MediaPart",
    "Message",
    "ModelInfo",
    "NamedTool",
    "OneOf",
    "Regex",
    "Rendered",
    "RenderedSegment",
    "Reply",
    "ReplyDelta",
    "ReplyStream",
    "RequestError",
    "Runtime",
    "SamplingParams",
    "TensorError",
    "TextPart",
    "Thinking",
    "Timings",
    "TokenLogprobs",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolChoice",
    "Turn",
    "UnsupportedError",
    "Usage",
    "__version__",
    "inspect",
    "load",
    "load_async",
    "media_info",
    "plan",
]

_TURNS = (
    *("AnswerFormat", "Grammar", "JsonSchema", "NamedTool", "OneOf", "Regex", "Thinking", "Tool", "ToolChoice"),
    "Turn",
)
_HOMES = dict.fromkeys(_TURNS, "turns") | {
    "AsyncRuntime": "async_runtime",
    "load_async": "async_runtime",
    "ModelInfo": "model_info",
    "ReplyStream": "reply_stream",
    "Runtime": "runtime",
    "inspect": "runtime",
    "load": "runtime",
    "plan": "runtime",
    "media_info": "runtime",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'loqal' has no attribute {name!r}")
    module = _HOMES.get(name) or ("errors" if name.endswith("Error") else "types")
    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
