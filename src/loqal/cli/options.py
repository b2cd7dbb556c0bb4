"""Flags derived from the records they fill: SamplingParams for a request, Settings for the machine."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn

from loqal.cli.attachments import MediaBounds
from loqal.errors import RequestError
from loqal.settings import SETTINGS, Setting
from loqal.types import sampling
from loqal.types.messages import MediaPart
from loqal.types.sampling import SamplingParams

EXIT_CODES = """\
exit codes:
  0    success
  1    a bug in loqal (a traceback was printed)
  2    invalid request or command line
  3    unusable model file or folder
  4    not enough memory
  5    incomplete installation
  130  interrupted with Ctrl-C
  141  the output pipe was closed"""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are RequestErrors, so that they look like all others."""

    def __init__(self, prog: str, description: str, usage: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            usage=usage,
            epilog=EXIT_CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and exiting."""
        raise RequestError(
            "The command line is invalid.", f"{message[:1].upper()}{message[1:]}.", f"See {self.prog} --help."
        )


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What the flags say about a whole chat. ``think`` None leaves it to the model's template.

    ``media`` go with the first message; ``bounds`` are those of later ones.
    """

    params: SamplingParams
    system: str | None = None
    think: bool | None = None
    verbose: bool = False
    media: tuple[MediaPart, ...] = ()
    bounds: MediaBounds = field(default_factory=lambda: MediaBounds())


# Annotations of SamplingParams to what argparse needs to read such a value.
_READERS: Mapping[str, dict[str, Any]] = {
    "int | None": {"type": int, "metavar": "N"},
    "float | None": {"type": float, "metavar": "X"},
    "bool": {"action": "store_true"},
    "tuple[str, ...]": {"action": "append", "metavar": "TEXT"},
    "tuple[int, ...]": {"action": "append", "type": int, "metavar": "ID"},
    "Mapping[int, float] | None": {"action": "append", "type": lambda text: _bias(text), "metavar": "ID=X"},
}


def _bias(text: str) -> tuple[int, float]:
    token_id, _, value = text.partition("=")
    return int(token_id), float(value)


def add_sampling_flags(parser: argparse.ArgumentParser) -> None:
    """One flag per field of SamplingParams, under the field's name."""
    group = parser.add_argument_group("sampling", "By default the values of the model card apply.")
    for entry in fields(SamplingParams):
        flag = "--" + entry.name.replace("_", "-")
        group.add_argument(flag, default=None, help=entry.metadata["help"], **_READERS[str(entry.type)])


def sampling_params(parsed: argparse.Namespace) -> SamplingParams:
    """The parameters the flags ask for, checked. Raises RequestError."""
    values: dict[str, Any] = {}
    for entry in fields(SamplingParams):
        value = getattr(parsed, entry.name)
        if value is not None:
            values[entry.name] = tuple(value) if isinstance(value, list) else value
    if "logit_bias" in values:
        values["logit_bias"] = dict(values["logit_bias"])
    params = SamplingParams(**values)
    sampling.check(params)
    return params


def add_setting_flags(
    parser: argparse.ArgumentParser, settings: Sequence[Setting] = SETTINGS, title: str = "machine"
) -> None:
    """One flag per setting."""
    group = parser.add_argument_group(title)
    for setting in settings:
        more: dict[str, Any] = {"metavar": "N" if setting.kind is int else "NAME"}
        if setting.kind is bool:
            more = {"action": argparse.BooleanOptionalAction}
        elif setting.kind is tuple:
            more |= {"action": "append"}
        group.add_argument(setting.flag, default=None, help=f"{setting.help} [{setting.env}]", **more)


def setting_values(parsed: argparse.Namespace, settings: Sequence[Setting] = SETTINGS) -> dict[str, Any]:
    """The settings the flags give, checked; those not given are None. Raises RequestError."""
    values = {setting.name: getattr(parsed, setting.name) for setting in settings}
    return {
        setting.name: None if values[setting.name] is None else setting.parse(values[setting.name], setting.flag)
        for setting in settings
    }


def token_ids(text: str) -> list[int]:
    """The ids of a comma separated list. Raises RequestError."""
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise RequestError(
            f"--prompt-ids is {text!r}.", "It must be a comma-separated list of token ids.", "Write for example 1,2,3."
        ) from None
