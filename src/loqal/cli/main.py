"""The command ``loqal``: find the verb, import only that, and turn errors into three lines and an exit code."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from loqal import __version__
from loqal.cli.options import EXIT_CODES
from loqal.cli.terminal import print_error, print_line
from loqal.errors import LoqalError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from loqal.cli.options import ChatOptions
    from loqal.runtime.runtime import Runtime
    from loqal.settings import ServerSettings

VERBS = {
    "run": "answer a prompt, or chat when none is given",
    "serve": "answer over HTTP, in the dialects of OpenAI, Anthropic and Ollama",
    "show": "say what a model file is",
    "bench": "measure how fast a model runs on this machine",
    "pull": "fetch a model",
    "list": "show the models on this machine, whichever tool fetched them",
    "import": "give a model that lies anywhere a name, without copying it",
    "verify": "compare a model's files with their digests",
    "repair": "fetch again what is damaged",
    "rm": "delete a model",
    "gc": "give back the space of what nothing needs",
    "plan": "say what fits this machine, and how fast it will be",
    "doctor": "describe this machine and installation, for a bug report",
    "quantize": "make a smaller file of a model",
    "imatrix": "measure which inputs matter, for quantize",
    "check": "compare two files of one model",
    "eval": "ask tasks with known answers, and count the right ones",
}

# Verbs that are one function of their words: module and function.
_FUNCTIONS = {
    "pull": ("pull", "pull"),
    "list": ("models", "list_models"),
    "import": ("models", "import_model"),
    "verify": ("models", "verify_model"),
    "repair": ("models", "repair"),
    "rm": ("models", "rm"),
    "gc": ("models", "gc"),
    "plan": ("plan", "plan"),
    "doctor": ("doctor", "doctor"),
    "quantize": ("quantize", "quantize"),
    "imatrix": ("quantize", "imatrix"),
    "check": ("quantize", "check"),
    "eval": ("evaluate", "evaluate"),
}

_INTERRUPTED = 128 + signal.SIGINT
_BROKEN_PIPE = 141  # 128 + SIGPIPE, which not every system defines


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character still gets the others
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except LoqalError as error:
        print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more on its way out; give it somewhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE


def _dispatch(words: list[str]) -> int:
    if words and words[0] == "--version":
        print_line(f"loqal {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help", "help"):
        print_line(_help())
        return 0
    verb, rest = words[0], words[1:]
    if verb == "run":
        from loqal.cli import run

        return run.run(rest, _chat, _fetch)
    if verb == "serve":
        from loqal.cli import serve

        return serve.serve(rest, _serve, _fetch)
    if verb == "show":
        from loqal.cli import show

        return show.show(rest)
    if verb == "bench":
        from loqal.cli import bench

        return bench.bench(rest)
    if verb in _FUNCTIONS:
        module, function = _FUNCTIONS[verb]
        code: int = getattr(importlib.import_module(f"loqal.cli.{module}"), function)(rest)
        return code
    raise RequestError(
        f"There is no command {verb!r}.",
        f"loqal has: {', '.join(VERBS)}.",
        f'To prompt the embedded model, write: loqal run "{" ".join(words)}"',
    )


def _chat(model: Runtime, options: ChatOptions) -> int:
    """Chat until the user leaves. The line editor is loaded only when there is somebody to use it."""
    from loqal.cli.chat import Chat
    from loqal.cli.line_editor import prompt_reader

    return Chat(model, options, prompt_reader()).run()


def _serve(
    loaders: Mapping[str, Callable[[int | None], Runtime]],
    limit_bytes: int | None,
    settings: ServerSettings,
    ready: Callable[[Sequence[str]], None],
) -> None:
    """Run the server. It is imported while the first model loads."""
    from loqal.server import serve
    from loqal.server.service import model_pool
    from loqal.system.memory import resident_bytes

    serve.log_to_stderr()
    models = model_pool.ModelPool(
        loaders, limit_bytes=limit_bytes, resident=resident_bytes, unload_after_s=settings.unload_after_s
    )
    serve.run(models, settings, ready)


def _fetch(name: str) -> None:
    """Fetch a model. The network is loaded only when there is something to fetch."""
    from loqal.cli.pull import fetch

    fetch(name)


def _help() -> str:
    verbs = "\n".join(f"  {verb:8} {help_text}" for verb, help_text in VERBS.items())
    return (
        "usage: loqal COMMAND [...]\n\nA local runtime for the Qwen 3.5 model family.\n\n"
        f"commands:\n{verbs}\n\noptions:\n  -h, --help  show this, or the help of a command\n"
        f"  --version   show the version\n\n{EXIT_CODES}"
    )
