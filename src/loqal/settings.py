"""Every knob of the machine, once. Flags, environment variables and documentation are derived from this table.

What a request asks for (temperature, seed, ...) is not here: see ``types.SamplingParams``. A value is taken from the
call or flag, else from the environment, else from the default. No setting changes an answer, except that
``context_len`` decides where a reply must end and ``kv_bits`` how exactly the context is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import RequestError


def _knob(kind: type, default: Any, help: str, *, low: int | None = None, choices: tuple[Any, ...] = ()) -> Any:
    return field(default=default, metadata={"kind": kind, "help": help, "low": low, "choices": choices})


@dataclass(frozen=True, slots=True)
class Settings:
    """The resolved settings of one runtime. ``None`` means that loqal decides."""

    context_len: int | None = _knob(
        int, None, "most tokens of prompt and reply together (default: the model's, as memory allows)", low=1
    )
    threads: int | None = _knob(int, None, "threads to compute with (default: the cores this process may use)", low=1)
    isa: str | None = _knob(str, None, "instruction set of the kernels (default: the best this machine has)")
    kv_bits: int | None = _knob(
        int,
        None,
        "bits of a stored key or value: 8 halves the memory of the context (default: 32 with F32 weights, else 16)",
        choices=(8, 16, 32),
    )
    max_sequences: int = _knob(int, 8, "most requests that compute at the same time; others wait for their turn", low=1)
    cache_bytes: int | None = _knob(
        int, None, "most memory for states of earlier requests; 0 keeps none (default: up to a quarter of all)", low=0
    )
    cache_dir: str | None = _knob(
        str, None, "keep states of earlier requests in this folder too, for the next start (default: nowhere)"
    )
    cache_dir_bytes: int = _knob(
        int, 16 << 30, "most bytes of a model in that folder; what was used longest ago goes first", low=1
    )
    memory_bytes: int | None = _knob(
        int, None, "most memory of the process (default: what the machine or its container has)", low=1
    )
    yarn: int | None = _knob(
        int, None, "stretch the positions by this factor for longer contexts; short texts may suffer", choices=(2, 4)
    )
    drafts: str = _knob(
        str, "auto", "guess tokens ahead where that saves time; no answer depends on it", choices=("auto", "off")
    )
    media_cache_bytes: int = _knob(
        int, 256 << 20, "most memory for encoded pictures; one seen again is not encoded again", low=0
    )
    packed_file: str | None = _knob(
        str, None, "keep the packed weights in this file and map it at the next start; auto: beside the model"
    )
    backend: str = _knob(
        str, "cpu", "what computes: the native kernels, or their slow specification", choices=("cpu", "reference")
    )


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting, as flags and documentation show it."""

    name: str
    kind: type
    default: Any
    help: str
    low: int | None
    choices: tuple[Any, ...]

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
        fits = isinstance(value, self.kind) and not isinstance(value, bool)
        if not fits or (self.low is not None and value < self.low) or (self.choices and value not in self.choices):
            raise self._refusal(value, origin)
        return value

    def _refusal(self, value: Any, origin: str) -> RequestError:
        if self.choices:
            allowed = "one of " + ", ".join(map(str, self.choices))
        elif self.kind is int:
            allowed = f"a whole number of at least {self.low}"
        else:
            allowed = "a text"
        return RequestError(f"{origin} is {value!r}.", f"It must be {allowed}.", f"It sets {self.name}: {self.help}.")


KNOBS: tuple[Knob, ...] = tuple(Knob(entry.name, default=entry.default, **entry.metadata) for entry in fields(Settings))


def resolve(given: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Settings from given values (None: not given), then the environment, then the defaults."""
    values: dict[str, Any] = {}
    for knob in KNOBS:
        if given.get(knob.name) is not None:
            values[knob.name] = knob.parse(given[knob.name], knob.name)
        elif environment.get(knob.env):
            values[knob.name] = knob.parse(environment[knob.env], f"The environment variable {knob.env}")
    return Settings(**values)
