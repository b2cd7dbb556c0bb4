"""The Python API for asyncio: the verbs of ``Runtime``, awaited. The event loop is never blocked.

async with await loqal.load_async("model.gguf") as model:
    async for delta in await model.stream_chat([{"role": "user", "content": "Hello!"}]):
        print(delta.text, end="")
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Concatenate, ParamSpec, TypeVar, Unpack

from loqal.runtime.reply_stream import ReplyStream
from loqal.runtime.runtime import Runtime, load
from loqal.settings import SettingsDict
from loqal.types.reply import Reply

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


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


def _awaited(
    verb: Callable[Concatenate[Runtime, _Arguments], _Result],
) -> Callable[Concatenate[AsyncRuntime, _Arguments], Coroutine[Any, Any, _Result]]:
    """A verb of ``Runtime``, run in a worker thread."""

    @functools.wraps(verb)
    async def run(self: AsyncRuntime, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        return await asyncio.to_thread(verb, self.runtime, *args, **kwargs)

    return run


def _finished(
    verb: Callable[Concatenate[Runtime, _Arguments], ReplyStream],
) -> Callable[Concatenate[AsyncRuntime, _Arguments], Coroutine[Any, Any, Reply]]:
    """The whole reply of a streaming verb of ``Runtime``. Cancelling the task that waits for it cancels the request."""

    @functools.wraps(verb)
    async def run(self: AsyncRuntime, /, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Reply:
        return await (await asyncio.to_thread(verb, self.runtime, *args, **kwargs)).finish_async()

    return run


class AsyncRuntime:
    """A ``Runtime`` whose verbs are awaited, with the same arguments and errors; streams are read with ``async for``.

    Attributes:
        runtime: the same model for threads.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    chat = _finished(Runtime.stream_chat)
    generate = _finished(Runtime.stream_generate)
    stream_chat = _awaited(Runtime.stream_chat)
    stream_generate = _awaited(Runtime.stream_generate)
    choices = _awaited(Runtime.choices)
    stream_choices = _awaited(Runtime.stream_choices)
    batch = _awaited(Runtime.batch)
    render = _awaited(Runtime.render)
    embed = _awaited(Runtime.embed)
    score = _awaited(Runtime.score)
    close = _awaited(Runtime.close)

    def tokenize(self, text: str, *, control: bool = False) -> list[int]:
        """See ``Runtime.tokenize``."""
        return self.runtime.tokenize(text, control=control)

    def detokenize(self, token_ids: Iterable[int], *, skip_special: bool = True) -> str:
        """See ``Runtime.detokenize``."""
        return self.runtime.detokenize(token_ids, skip_special=skip_special)

    async def __aenter__(self) -> AsyncRuntime:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
