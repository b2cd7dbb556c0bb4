"""Counts the functions of loqal between the socket and the kernels, for one streamed chat.

A server in this process answers one request while a profiler of every thread looks at the stack at each handover: from
the event loop to a worker thread, from there to the engine's thread, from there into the native kernels; and on the way
back from the engine to the reply, the wire and the socket. Counted are named functions of the package that are on one
of these stacks; functions of Python, of the web framework, lambdas and comprehensions are not. What follows below the
native call is listed in ``NATIVE``, since no profiler of Python sees it.

    python tools/frames.py
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

import loqal
from loqal.server.app import create_app
from loqal.server.service.model_pool import ModelPool

PACKAGE = Path(loqal.__file__).parent

NATIVE: tuple[tuple[str, str], ...] = (
    ("cpp/decoder/layers.cpp", "run_layers"),
    ("cpp/ops/linear.cpp", "linear"),
    ("cpp/base/threads.cpp", "ThreadPool::run"),
    ("cpp/kernels/linear-inl.h", "multiply_panels"),
)
"""The functions between ``run_layers`` of the extension and the dot product of a quantized weight: file and name."""

THERE = (
    ("the event loop hands over to a worker", "loop", "to_thread"),
    ("the worker hands over to the engine", "worker", "SimpleQueue.put"),
    ("the engine calls the kernels", "engine", "CpuOps.run_layers"),
)
"""The handovers of a request: the thread, and the function of Python or ours that is called there."""

BACK = (
    ("the engine hands a token over", "engine", "SimpleQueue.put"),
    ("the reply reads a token", "loop", "OutputParser.push"),
    ("the dialect formats a piece", "loop", "ChatWriter.push"),
    ("the wire encodes an event", "loop", "ServerSentEvents.encode"),
    ("the socket is written", "loop", "RequestMiddleware.__call__.<locals>.sending"),
)
"""The handovers of the reply."""

_CALLED = frozenset(called for _, _, called in (*THERE, *BACK))


class Stacks:
    """A profiler that keeps the first stack of our functions at each handover, by thread and function."""

    def __init__(self) -> None:
        self.first: dict[tuple[str, str], list[str]] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        """See ``sys.setprofile``."""
        if event not in ("call", "c_call"):
            return
        called = frame.f_code.co_qualname if event == "call" else argument.__qualname__
        if called in _CALLED:
            self.first.setdefault((_thread(), called), _own(frame))


def _thread() -> str:
    name = threading.current_thread().name
    return "engine" if name == "loqal-engine" else "worker" if name.startswith("asyncio") else "loop"


def _own(frame: FrameType | None) -> list[str]:
    """The named functions of the package on a stack, outermost first."""
    found: list[str] = []
    while frame is not None:
        path, name = Path(frame.f_code.co_filename), frame.f_code.co_qualname
        if PACKAGE in path.parents and not frame.f_code.co_name.startswith("<"):
            found.append(f"{path.relative_to(PACKAGE)} {name}")
        frame = frame.f_back
    return found[::-1]


def record() -> Stacks:
    """Serve the embedded model, ask it for one streamed chat, and return the stacks."""
    stacks = Stacks()
    threading.setprofile(stacks)
    try:
        with loqal.load(context_len=256, drafts="off", threads=1) as runtime:
            pool = ModelPool({"demo": lambda memory_bytes: runtime}, limit_bytes=None, resident=lambda: 0)
            config = uvicorn.Config(create_app(pool), port=0, log_config=None, loop="asyncio", ws="none")
            server = uvicorn.Server(config)
            thread = threading.Thread(target=server.run, daemon=True)
            thread.start()
            while not server.started:
                time.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            _ask(port)
            stacks.first.clear()  # of the request that loaded the model into the pool
            _ask(port)
            server.should_exit = True
            thread.join()
    finally:
        threading.setprofile(None)
    return stacks


def _ask(port: int) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "model": "demo", "stream": True, "max_tokens": 4}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200 or b"[DONE]" not in answer.read():
        raise RuntimeError(f"the server answered with status {answer.status}")
    connection.close()


def functions(stacks: Stacks, handovers: tuple[tuple[str, str, str], ...]) -> list[str]:
    """The distinct functions on the stacks of some handovers, in order."""
    return list(dict.fromkeys(name for _, thread, called in handovers for name in stacks.first[thread, called]))


def main() -> None:
    """Print the stacks and the counts."""
    stacks = record()
    for title, handovers in (("request", THERE), ("reply", BACK)):
        for label, thread, called in handovers:
            print(f"{label}:")
            print("".join(f"    {name}\n" for name in stacks.first[thread, called]), end="")
        print(f"{len(functions(stacks, handovers))} functions of the {title}\n")
    print("below the native call:\n" + "".join(f"    {path} {name}\n" for path, name in NATIVE), end="")
    print(f"{len(functions(stacks, THERE)) + len(NATIVE)} functions from the socket to the kernel")


if __name__ == "__main__":
    main()
