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
    "run": "answer a prompt, or chat without one",
    "serve": "serve models over HTTP, compatible with OpenAI, Anthropic and Ollama",
    "show": "describe a model file",
    "bench": "measure prefill and decode speed on this machine",
    "pull": "download a model",
    "list": "list the models on this machine, of all tools",
    "import": "register a local model under a name (symlink)",
    "verify": "check the files of a model against their digests",
    "repair": "download damaged parts of a model again",
    "rm": "delete a model",
    "gc": "free disk space: unfinished downloads, unreferenced files",
    "plan": "predict memory and speed of models on this machine",
    "doctor": "describe this machine and installation, for a bug report",
    "quantize": "write a quantized GGUF file of a model",
    "imatrix": "compute an importance matrix",
    "compare": "compare two quantizations of a model",
    "eval": "measure accuracy on a task file",
}

# A verb is the function ``main`` of the module of its name, but for these.
_MODULES = {"list": "list_models", "import": "import_model"}
_OLD_NAMES = {"check": "compare"}

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
    verb, rest = _OLD_NAMES.get(words[0], words[0]), words[1:]
    if verb == "run":
        from loqal.cli import run

        return run.run(rest, _chat, _fetch)
    if verb == "serve":
        from loqal.cli import serve

        return serve.serve(rest, _serve, _fetch)
    if verb in VERBS:
        module = importlib.import_module(f"loqal.cli.{_MODULES.get(verb, verb)}")
        code: int = module.main(rest)
        return code
    raise RequestError(
        f"The command {verb!r} does not exist.",
        f"The commands are {', '.join(VERBS)}.",
        f'To prompt the embedded model, write: loqal run "{" ".join(words)}"',
    )


def _chat(model: Runtime, options: ChatOptions) -> int:
    """Chat until the user leaves. The line editor is loaded only when it is used."""
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
