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
    from loqal.errors import (
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
    from loqal.runtime.async_runtime import AsyncRuntime, load_async
    from loqal.runtime.model_info import ModelInfo
    from loqal.runtime.reply_stream import ReplyStream
    from loqal.runtime.runtime import Runtime, inspect, load, media_info, plan
    from loqal.types.messages import MediaInfo, MediaPart, Message, TextPart, ToolCall
    from loqal.types.reply import (
        FinishReason,
        Rendered,
        RenderedSegment,
        Reply,
        ReplyDelta,
        Timings,
        TokenLogprobs,
        ToolCallDelta,
        Usage,
    )
    from loqal.types.reply_options import (
        AnswerFormat,
        Grammar,
        JsonSchema,
        NamedTool,
        OneOf,
        Regex,
        ReplyOptions,
        Thinking,
        Tool,
        ToolChoice,
        Turn,
    )
    from loqal.types.sampling import SamplingParams

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
    "ReplyOptions",
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

# Where each public name is defined; a test holds it against __all__ and the imports for type checkers above.
_HOMES = {
    "AnswerFormat": "loqal.types.reply_options",
    "AsyncRuntime": "loqal.runtime.async_runtime",
    "CapacityError": "loqal.errors",
    "CheckpointError": "loqal.errors",
    "ContextError": "loqal.errors",
    "FinishReason": "loqal.types.reply",
    "FormatError": "loqal.errors",
    "Grammar": "loqal.types.reply_options",
    "InstallationError": "loqal.errors",
    "JsonSchema": "loqal.types.reply_options",
    "LoqalError": "loqal.errors",
    "MediaError": "loqal.errors",
    "MediaInfo": "loqal.types.messages",
    "MediaPart": "loqal.types.messages",
    "Message": "loqal.types.messages",
    "ModelInfo": "loqal.runtime.model_info",
    "NamedTool": "loqal.types.reply_options",
    "OneOf": "loqal.types.reply_options",
    "Regex": "loqal.types.reply_options",
    "Rendered": "loqal.types.reply",
    "RenderedSegment": "loqal.types.reply",
    "Reply": "loqal.types.reply",
    "ReplyDelta": "loqal.types.reply",
    "ReplyOptions": "loqal.types.reply_options",
    "ReplyStream": "loqal.runtime.reply_stream",
    "RequestError": "loqal.errors",
    "Runtime": "loqal.runtime.runtime",
    "SamplingParams": "loqal.types.sampling",
    "TensorError": "loqal.errors",
    "TextPart": "loqal.types.messages",
    "Thinking": "loqal.types.reply_options",
    "Timings": "loqal.types.reply",
    "TokenLogprobs": "loqal.types.reply",
    "Tool": "loqal.types.reply_options",
    "ToolCall": "loqal.types.messages",
    "ToolCallDelta": "loqal.types.reply",
    "ToolChoice": "loqal.types.reply_options",
    "Turn": "loqal.types.reply_options",
    "UnsupportedError": "loqal.errors",
    "Usage": "loqal.types.reply",
    "inspect": "loqal.runtime.runtime",
    "load": "loqal.runtime.runtime",
    "load_async": "loqal.runtime.async_runtime",
    "media_info": "loqal.runtime.runtime",
    "plan": "loqal.runtime.runtime",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'loqal' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
