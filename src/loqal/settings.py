"""Settings of the runtime and the server: one table for arguments, flags, environment, files and docs/settings.md.

What a request asks for (temperature, seed, ...) is not here: see ``types.sampling``. A value is taken from the call or
flag, else from the environment, else from a file, else from the default. A setting of the runtime that may change an
answer is declared with ``changes_output``; tests run all others at another value and compare bits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict, TypeVar

from loqal.errors import RequestError


def _setting(
    kind: type,
    default: Any,
    help: str,
    *,
    low: int | None = None,
    choices: tuple[Any, ...] = (),
    changes_output: bool = False,
) -> Any:
    metadata = {"kind": kind, "help": help, "low": low, "choices": choices, "changes_output": changes_output}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Settings:
    """The resolved settings of one runtime. ``None`` means that loqal decides."""

    context_len: int | None = _setting(
        int,
        None,
        "maximum context length in tokens (prompt + reply; default: the model's, as memory allows)",
        low=1,
        changes_output=True,  # where a reply must end
    )
    threads: int | None = _setting(
        int, None, "number of compute threads (default: the cores available to this process)", low=1
    )
    isa: str | None = _setting(str, None, "instruction set of the kernels (default: the best this machine has)")
    kv_bits: int | None = _setting(
        int,
        None,
        "bits per stored key and value; 8 halves the memory of the context (default: 32 with F32 weights, else 16)",
        choices=(8, 16, 32),
        changes_output=True,
    )
    max_sequences: int = _setting(
        int, 8, "maximum number of requests computed concurrently; further ones are queued", low=1
    )
    cache_bytes: int | None = _setting(
        int, None, "prefix cache size in bytes; 0 disables it (default: up to a quarter of the memory)", low=0
    )
    cache_dir: str | None = _setting(
        str, None, "directory of the on-disk prefix cache (persists across restarts; default: none)"
    )
    cache_dir_bytes: int = _setting(
        int,
        16 << 30,
        "maximum size in bytes of a model's on-disk prefix cache; evicts the least recently used",
        low=1,
    )
    memory_bytes: int | None = _setting(
        int,
        None,
        "memory limit of the process in bytes (default: that of the machine or its container)",
        low=1,
        changes_output=True,  # the context_len, where that is not given
    )
    yarn: int | None = _setting(
        int,
        None,
        "YaRN context extension factor; may reduce quality on short prompts",
        choices=(2, 4),
        changes_output=True,
    )
    drafts: str = _setting(
        str,
        "auto",
        "speculative decoding (MTP head and n-gram); never changes the output",
        choices=("auto", "off"),
    )
    media_cache_bytes: int = _setting(
        int, 256 << 20, "cache size in bytes for encoded images and videos; 0 disables it", low=0
    )
    packed_file: str | None = _setting(
        str, None, "cache repacked weights in this file and mmap it next time; auto: next to the model (default: none)"
    )
    backend: str = _setting(
        str,
        "cpu",
        "compute backend: native kernels, or the NumPy reference",
        choices=("cpu", "reference"),
        changes_output=True,  # within the tolerances of the operations
    )


class SettingsDict(TypedDict, total=False):
    """``Settings`` as keyword arguments, for type checkers; a test holds it against the fields there."""

    context_len: int | None
    threads: int | None
    isa: str | None
    kv_bits: int | None
    max_sequences: int | None
    cache_bytes: int | None
    cache_dir: str | os.PathLike[str] | None
    cache_dir_bytes: int | None
    memory_bytes: int | None
    yarn: int | None
    drafts: str | None
    media_cache_bytes: int | None
    packed_file: str | os.PathLike[str] | None
    backend: str | None


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The resolved settings of one server."""

    host: str = _setting(str, "127.0.0.1", "address to listen on; other machines can only reach it with an API key")
    port: int = _setting(int, 8000, "port to listen on; 0 chooses a free one", low=0)
    api_key: str | None = _setting(str, None, "API key clients must send (prefer LOQAL_API_KEY or --keys-file)")
    keys_file: str | None = _setting(str, None, "TOML file of API keys with names, scopes and quotas")
    allow_public: bool = _setting(bool, False, "listen on public addresses without an API key")
    allow_hosts: tuple[str, ...] = _setting(tuple, (), "additional host name accepted in the Host header")
    allow_origins: tuple[str, ...] = _setting(
        tuple, (), "web origin allowed to call the server (CORS), such as https://chat.example"
    )
    allow_urls: bool = _setting(bool, False, "fetch images and videos that requests name by URL (public hosts only)")
    lenient: bool = _setting(bool, False, "ignore unsupported fields with a warning instead of rejecting the request")
    max_requests: int = _setting(int, 256, "maximum in-flight requests; beyond that HTTP 429", low=1)
    max_body_bytes: int = _setting(int, 64 << 20, "maximum size of a request body in bytes", low=1)
    unload_after_s: int = _setting(int, 0, "unload a model after this many idle seconds; 0 keeps it loaded", low=0)
    drain_s: int = _setting(int, 30, "graceful shutdown timeout in seconds", low=0)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting, as flags and documentation show it.

    ``changes_output`` says whether the model's answer to a request may depend on it.
    """

    name: str
    kind: type
    default: Any
    help: str
    low: int | None
    choices: tuple[Any, ...]
    changes_output: bool

    @property
    def env(self) -> str:
        """The environment variable that sets it."""
        return f"LOQAL_{self.name.upper()}"

    @property
    def flag(self) -> str:
        """The command line flag that sets it."""
        return "--" + self.name.replace("_", "-")

    def parse(self, value: Any, origin: str) -> Any:
        """The checked value of a string or a Python object. Raises RequestError."""
        if self.kind is str and isinstance(value, os.PathLike):
            value = os.fspath(value)
        if self.kind is int and isinstance(value, str):
            try:
                value = int(value)
            except ValueError:
                raise self._error(value, origin) from None
        if self.kind is bool:
            found = value if isinstance(value, bool) else _WORDS.get(str(value).lower())
            if found is None:
                raise self._error(value, origin)
            return found
        if self.kind is tuple:
            items = value.split(",") if isinstance(value, str) else value
            if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
                raise self._error(value, origin)
            return tuple(item.strip() for item in items if item.strip())
        fits = isinstance(value, self.kind) and not isinstance(value, bool)
        if not fits or (self.low is not None and value < self.low) or (self.choices and value not in self.choices):
            raise self._error(value, origin)
        return value

    def _error(self, value: Any, origin: str) -> RequestError:
        if self.choices:
            allowed = "one of " + ", ".join(map(str, self.choices))
        elif self.kind is int:
            allowed = f"a whole number of at least {self.low}"
        elif self.kind is bool:
            allowed = "true or false"
        elif self.kind is tuple:
            allowed = "a comma-separated list"
        else:
            allowed = "a string"
        return RequestError(f"{origin} is {value!r}.", f"It must be {allowed}.", f"Change {self.name}: {self.help}.")


_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_Kind = TypeVar("_Kind", Settings, ServerSettings)


def _settings_of(kind: type[Any]) -> tuple[Setting, ...]:
    return tuple(Setting(entry.name, default=entry.default, **entry.metadata) for entry in fields(kind))


SETTINGS, SERVER_SETTINGS = _settings_of(Settings), _settings_of(ServerSettings)


def resolve(
    given: Mapping[str, Any], environment: Mapping[str, str], file: Mapping[str, Any] | None = None
) -> Settings:
    """Settings from given values (None: not given), then the environment, then a file's, then the defaults.

    Raises RequestError for a setting that does not exist, or that has a value which is not allowed.
    """
    return _resolve(Settings, SETTINGS, given, environment, file or {})


def resolve_server(
    given: Mapping[str, Any], environment: Mapping[str, str], file: Mapping[str, Any] | None = None
) -> ServerSettings:
    """``resolve`` for the settings of a server."""
    return _resolve(ServerSettings, SERVER_SETTINGS, given, environment, file or {})


def _resolve(
    kind: type[_Kind],
    all_settings: tuple[Setting, ...],
    given: Mapping[str, Any],
    environment: Mapping[str, str],
    file: Mapping[str, Any],
) -> _Kind:
    names = [setting.name for setting in all_settings]
    for name in given.keys() - names:
        raise RequestError(
            f"The setting {name!r} does not exist.", f"The settings are {', '.join(names)}.", "Use one of these."
        )
    values: dict[str, Any] = {}
    for setting in all_settings:
        if given.get(setting.name) is not None:
            values[setting.name] = setting.parse(given[setting.name], setting.name)
        elif environment.get(setting.env):
            values[setting.name] = setting.parse(environment[setting.env], f"The environment variable {setting.env}")
        elif setting.name in file:
            values[setting.name] = setting.parse(file[setting.name], f"{setting.name} in the file")
    return kind(**values)
