"""Every setting of the machine and the server. Flags, environment, files and documentation derive from this table.

What a request asks for (temperature, seed, ...) is not here: see ``types.SamplingParams``. A value is taken from the
call or flag, else from the environment, else from a file, else from the default. A setting of the machine that may
change an answer is declared with ``changes_output``; tests run all others at another value and compare bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

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
        "most tokens of prompt and reply together (default: the model's, as memory allows)",
        low=1,
        changes_output=True,  # where a reply must end
    )
    threads: int | None = _setting(
        int, None, "threads to compute with (default: the cores this process may use)", low=1
    )
    isa: str | None = _setting(str, None, "instruction set of the kernels (default: the best this machine has)")
    kv_bits: int | None = _setting(
        int,
        None,
        "bits of a stored key or value: 8 halves the memory of the context (default: 32 with F32 weights, else 16)",
        choices=(8, 16, 32),
        changes_output=True,
    )
    max_sequences: int = _setting(
        int, 8, "most requests that compute at the same time; others wait for their turn", low=1
    )
    cache_bytes: int | None = _setting(
        int, None, "most memory for states of earlier requests; 0 keeps none (default: up to a quarter of all)", low=0
    )
    cache_dir: str | None = _setting(
        str, None, "keep states of earlier requests in this folder too, for the next start (default: nowhere)"
    )
    cache_dir_bytes: int = _setting(
        int, 16 << 30, "most bytes of a model in that folder; what was used longest ago goes first", low=1
    )
    memory_bytes: int | None = _setting(
        int,
        None,
        "most memory of the process (default: what the machine or its container has)",
        low=1,
        changes_output=True,  # the context_len, where that is not given
    )
    yarn: int | None = _setting(
        int,
        None,
        "stretch the positions by this factor for longer contexts; short texts may suffer",
        choices=(2, 4),
        changes_output=True,
    )
    drafts: str = _setting(
        str, "auto", "guess tokens ahead where that saves time; no answer depends on it", choices=("auto", "off")
    )
    media_cache_bytes: int = _setting(
        int, 256 << 20, "most memory for encoded pictures; one seen again is not encoded again", low=0
    )
    packed_file: str | None = _setting(
        str, None, "keep the packed weights in this file and map it at the next start; auto: beside the model"
    )
    backend: str = _setting(
        str,
        "cpu",
        "what computes: the native kernels, or their slow specification",
        choices=("cpu", "reference"),
        changes_output=True,  # within the tolerances of the operations
    )


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The resolved settings of one server."""

    host: str = _setting(str, "127.0.0.1", "address to listen on; beyond this machine only with a key")
    port: int = _setting(int, 8000, "port to listen on; 0 for any that is free", low=0)
    api_key: str | None = _setting(str, None, "a key that callers must give; better set in the environment or a file")
    keys_file: str | None = _setting(str, None, "a TOML file of keys with names, scopes and quotas")
    allow_public: bool = _setting(bool, False, "listen beyond this machine without any key")
    allow_hosts: tuple[str, ...] = _setting(tuple, (), "a further name under which this server may be called")
    allow_origins: tuple[str, ...] = _setting(tuple, (), "a web page's origin that may call, like https://chat.example")
    allow_urls: bool = _setting(
        bool, False, "fetch images and videos that requests name by URL, from public hosts only"
    )
    lenient: bool = _setting(bool, False, "leave out what is not supported and say so, rather than refuse the request")
    max_requests: int = _setting(
        int, 256, "most replies written or waiting; what comes beyond is refused for now", low=1
    )
    max_body_bytes: int = _setting(int, 64 << 20, "most bytes of a request", low=1)
    unload_after_s: int = _setting(int, 0, "unload a model that nobody used for so long; 0 keeps it", low=0)
    drain_s: int = _setting(int, 30, "how long replies may go on when the server is asked to end", low=0)


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
        """The checked value of a text or a Python object. Raises RequestError naming ``origin`` and what is allowed."""
        if self.kind is int and isinstance(value, str):
            try:
                value = int(value)
            except ValueError:
                raise self._refusal(value, origin) from None
        if self.kind is bool:
            found = value if isinstance(value, bool) else _WORDS.get(str(value).lower())
            if found is None:
                raise self._refusal(value, origin)
            return found
        if self.kind is tuple:
            items = value.split(",") if isinstance(value, str) else value
            if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
                raise self._refusal(value, origin)
            return tuple(item.strip() for item in items if item.strip())
        fits = isinstance(value, self.kind) and not isinstance(value, bool)
        if not fits or (self.low is not None and value < self.low) or (self.choices and value not in self.choices):
            raise self._refusal(value, origin)
        return value

    def _refusal(self, value: Any, origin: str) -> RequestError:
        if self.choices:
            allowed = "one of " + ", ".join(map(str, self.choices))
        elif self.kind is int:
            allowed = f"a whole number of at least {self.low}"
        elif self.kind is bool:
            allowed = "true or false"
        elif self.kind is tuple:
            allowed = "texts with commas between them"
        else:
            allowed = "a text"
        return RequestError(f"{origin} is {value!r}.", f"It must be {allowed}.", f"It sets {self.name}: {self.help}.")


_WORDS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_Kind = TypeVar("_Kind", Settings, ServerSettings)


def _settings_of(kind: type[Any]) -> tuple[Setting, ...]:
    return tuple(Setting(entry.name, default=entry.default, **entry.metadata) for entry in fields(kind))


SETTINGS, SERVER_SETTINGS = _settings_of(Settings), _settings_of(ServerSettings)


def resolve(
    given: Mapping[str, Any], environment: Mapping[str, str], file: Mapping[str, Any] | None = None
) -> Settings:
    """Settings from given values (None: not given), then the environment, then a file's, then the defaults."""
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
    values: dict[str, Any] = {}
    for setting in all_settings:
        if given.get(setting.name) is not None:
            values[setting.name] = setting.parse(given[setting.name], setting.name)
        elif environment.get(setting.env):
            values[setting.name] = setting.parse(environment[setting.env], f"The environment variable {setting.env}")
        elif setting.name in file:
            values[setting.name] = setting.parse(file[setting.name], f"{setting.name} in the file")
    return kind(**values)
