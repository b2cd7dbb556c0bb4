"""The Python API for asyncio: the same verbs, awaited. The event loop is never blocked.

async with await loqal.load_async("model.gguf") as model:
    async for delta in await model.stream_chat([{"role": "user", "content": "Hello!"}]):
        print(delta.text, end="")
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Unpack

from loqal.ops.interface import FloatArray
from loqal.runtime.prompts import MessageLike
from loqal.runtime.reply_stream import ReplyStream
from loqal.runtime.runtime import Runtime, load
from loqal.settings import SettingsDict
from loqal.types.reply import Rendered, Reply, TokenLogprobs
from loqal.types.sampling import SamplingParams


async def load_async(
    model: str | os.PathLike[str] | None = None,
    *,
    mmproj: str | os.PathLike[str] | None = None,
    allow_urls: bool = False,
    allow_paths: bool = True,
    **given: Unpack[SettingsDict],
) -> AsyncRuntime:
    """``load`` in a worker thread. Arguments and errors as there.

    >>> async def ask() -> int:
    ...     async with await loqal.load_async(context_len=256) as model:
    ...         reply = await model.generate("abc", loqal.SamplingParams(max_tokens=3, ignore_eos=True))
    ...         return len(reply.token_ids)
    >>> asyncio.run(ask())
    3
    """
    return AsyncRuntime(
        await asyncio.to_thread(load, model, mmproj=mmproj, allow_urls=allow_urls, allow_paths=allow_paths, **given)
    )


class AsyncRuntime:
    """A ``Runtime`` whose verbs are awaited. Cancelling a task that waits for a reply cancels the request.

    Attributes:
        runtime: the same model for threads.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    async def chat(self, messages: Iterable[MessageLike], params: SamplingParams | None = None, **more: Any) -> Reply:
        """See ``Runtime.chat``."""
        return await (await self.stream_chat(messages, params, **more)).finish_async()

    async def stream_chat(
        self, messages: Iterable[MessageLike], params: SamplingParams | None = None, **more: Any
    ) -> ReplyStream:
        """See ``Runtime.stream_chat``; read the stream with ``async for``."""
        return await asyncio.to_thread(self.runtime.stream_chat, messages, params, **more)

    async def generate(self, prompt: str | Sequence[int], params: SamplingParams | None = None, **more: Any) -> Reply:
        """See ``Runtime.generate``."""
        return await (await self.stream_generate(prompt, params, **more)).finish_async()

    async def stream_generate(
        self, prompt: str | Sequence[int], params: SamplingParams | None = None, **more: Any
    ) -> ReplyStream:
        """See ``Runtime.stream_generate``; read the stream with ``async for``."""
        return await asyncio.to_thread(self.runtime.stream_generate, prompt, params, **more)

    async def choices(
        self, messages: Iterable[MessageLike], params: SamplingParams | None = None, *, n: int, **more: Any
    ) -> list[Reply]:
        """See ``Runtime.choices``."""
        return await asyncio.to_thread(self.runtime.choices, messages, params, n=n, **more)

    async def stream_choices(
        self, messages: Iterable[MessageLike], params: SamplingParams | None = None, *, n: int, **more: Any
    ) -> list[ReplyStream]:
        """See ``Runtime.stream_choices``; read the streams with ``async for``."""
        return await asyncio.to_thread(self.runtime.stream_choices, messages, params, n=n, **more)

    async def render(self, messages: Iterable[MessageLike], **more: Any) -> Rendered:
        """See ``Runtime.render``."""
        return await asyncio.to_thread(self.runtime.render, messages, **more)

    async def batch(
        self, prompts: Iterable[str | Sequence[int] | Sequence[MessageLike]], params: SamplingParams | None = None
    ) -> list[Reply]:
        """See ``Runtime.batch``."""
        return await asyncio.to_thread(self.runtime.batch, prompts, params)

    async def embed(
        self, texts: str | Sequence[int] | Sequence[str | Sequence[int]], *, pooling: Literal["mean", "last"] = "mean"
    ) -> FloatArray:
        """See ``Runtime.embed``."""
        return await asyncio.to_thread(self.runtime.embed, texts, pooling=pooling)

    async def score(self, prompt: str | Sequence[int], continuation: str | Sequence[int]) -> tuple[TokenLogprobs, ...]:
        """See ``Runtime.score``."""
        return await asyncio.to_thread(self.runtime.score, prompt, continuation)

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        """See ``Runtime.tokenize``."""
        return self.runtime.tokenize(text, control=control)

    def detokenize(self, token_ids: Iterable[int], *, skip_special: bool = True) -> str:
        """See ``Runtime.detokenize``."""
        return self.runtime.detokenize(token_ids, skip_special=skip_special)

    async def close(self) -> None:
        """See ``Runtime.close``."""
        await asyncio.to_thread(self.runtime.close)

    async def __aenter__(self) -> AsyncRuntime:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
