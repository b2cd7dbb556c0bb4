"""``loqal serve``: serve models over HTTP."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from loqal.cli import options, terminal
from loqal.errors import RequestError
from loqal.hub import find
from loqal.runtime import open_model, runtime
from loqal.settings import SERVER_SETTINGS, SETTINGS, ServerSettings, resolve, resolve_server

if TYPE_CHECKING:
    from loqal.runtime.runtime import Runtime

_USAGE = """loqal serve [options] [MODEL ...]

  loqal serve                          the embedded model, on http://127.0.0.1:8000
  loqal serve qwen3.5:4b               a published model, downloaded first if it is not on this machine
  loqal serve chat=qwen3.5:9b model.gguf   several; requests call them chat and model
  loqal serve --config server.toml     settings under the names of the flags: port = 9000, models = ["demo"]
"""
_CONFIG_ENV = "LOQAL_CONFIG"


class Start(Protocol):
    """What runs the server."""

    def __call__(
        self,
        loaders: Mapping[str, Callable[[int | None], Runtime]],
        limit_bytes: int | None,
        settings: ServerSettings,
        ready: Callable[[Sequence[str]], None],
    ) -> None:
        """Serve models by name, within so many bytes, and tell ``ready`` the addresses."""
        ...


def serve(words: Sequence[str], start: Start, fetch: Callable[[str], None]) -> int:
    """Run the command and return its exit code. Raises LoqalError.

    ``start`` runs the server over the models it is given; ``fetch`` gets a published model that is not here.
    """
    parser = options.Parser(
        "loqal serve", "Serve models over HTTP, compatible with OpenAI, Anthropic and Ollama.", _USAGE
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="[NAME=]MODEL: a file, a folder, or a name")
    parser.add_argument("--config", metavar="FILE", help=f"a TOML file of settings [{_CONFIG_ENV}]")
    options.add_setting_flags(parser, SERVER_SETTINGS, "server")
    options.add_setting_flags(parser)
    parsed = parser.parse_args(list(words))
    file = _config(parsed.config or os.environ.get(_CONFIG_ENV))
    settings = resolve_server(options.setting_values(parsed, SERVER_SETTINGS), os.environ, file)
    machine = options.setting_values(parsed)
    limit_bytes = resolve(machine, os.environ, file).memory_bytes
    chosen = {setting.name: file.get(setting.name) if not os.environ.get(setting.env) else None for setting in SETTINGS}
    chosen |= {name: value for name, value in machine.items() if value is not None}
    loaders = {
        name: _Loader(found, chosen, settings)
        for name, found in _models(parsed.models or file.get("models") or [find.EMBEDDED], fetch).items()
    }
    names = list(loaders)
    loaders[names[0]].begin(limit_bytes)

    def ready(addresses: Sequence[str]) -> None:
        for address in addresses:
            terminal.print_line(f"{address}  {', '.join(names)}")

    start(loaders, limit_bytes, settings, ready)
    return 0


class _Loader:
    """Loads one model. The first time may have begun before it is asked for."""

    def __init__(self, found: find.Found, chosen: Mapping[str, Any], settings: ServerSettings) -> None:
        self._found, self._chosen, self._allow_urls = found, dict(chosen), settings.allow_urls
        self._begun: Future[Runtime] | None = None

    def begin(self, memory_bytes: int | None) -> None:
        """Load beside whatever comes next."""
        self._begun = ThreadPoolExecutor(1, "loqal-load").submit(self._load, memory_bytes)

    def __call__(self, memory_bytes: int | None) -> Runtime:
        begun, self._begun = self._begun, None
        return self._load(memory_bytes) if begun is None else begun.result()

    def _load(self, memory_bytes: int | None) -> Runtime:
        chosen = self._chosen | {"memory_bytes": memory_bytes}
        return runtime.load(
            self._found.path, **chosen, mmproj=self._found.mmproj, allow_urls=self._allow_urls, allow_paths=False
        )


def _models(words: Sequence[str], fetch: Callable[[str], None]) -> dict[str, find.Found]:
    """The models by the names that requests will use. Raises LoqalError."""
    found: dict[str, find.Found] = {}
    for word in words:
        name, _, model = word.rpartition("=")
        if find.is_absent_name(model):
            terminal.print_note(f"{model} is not on this machine yet.")
            fetch(model)
        place = open_model.find(model)
        is_path = find.looks_like_path(model) or Path(model).exists()
        name = name or (Path(model).name.removesuffix(".gguf") if is_path else model)
        if name in found:
            raise RequestError(
                f"Two models are called {name!r}.", "Requests name the model they want.", f"Write NAME={model}."
            )
        found[name] = place
    return found


def _config(path: str | None) -> dict[str, Any]:
    """Settings of a TOML file. Raises RequestError for one that does not exist or says something unknown."""
    if path is None:
        return {}
    try:
        values = tomllib.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise RequestError(f"The settings in {path!r} cannot be read.", f"{error}.", "Check the file.") from error
    known = {"models", *(setting.name for setting in (*SETTINGS, *SERVER_SETTINGS))}
    for name in values:
        if name not in known:
            raise RequestError(
                f"{path} sets {name!r}.",
                "The setting is unknown.",
                "See loqal serve --help; names are those of the flags, with underscores.",
            )
    models = values.get("models", [])
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise RequestError(
            f"The setting models in {path} is {models!r}.", "It must be a list of strings.", 'Write models = ["demo"].'
        )
    return values
