"""``loqal run``: answer one prompt, or chat when there is none."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import loqal
from loqal.cli import attachments, options, terminal
from loqal.errors import RequestError
from loqal.hub import find
from loqal.types.messages import MediaPart, Message
from loqal.types.reply import Reply
from loqal.types.sampling import SamplingParams

if TYPE_CHECKING:
    from loqal.runtime.runtime import Runtime

_USAGE = """loqal run [options] [MODEL] [PROMPT ...]

  loqal run                            chat with the embedded model
  loqal run "Why is the sky blue?"     ask the embedded model
  loqal run model.gguf "Why?"          ask another model: a file, a folder, or a name
  loqal run model.gguf "What is on this?" photo.jpg
  loqal run qwen3.5:4b "Why?"          a published model, downloaded first if it is not on this machine
  cat notes.txt | loqal run model.gguf "Summarise:"
"""


@dataclasses.dataclass(frozen=True, slots=True)
class _Job:
    """One command line, understood."""

    model: find.Found
    prompt: str  # empty: chat
    prompt_ids: list[int] | None
    system: str | None
    params: SamplingParams
    settings: dict[str, Any]
    think: bool | None
    is_raw: bool
    as_json: bool
    verbose: bool
    media: tuple[MediaPart, ...]
    bounds: attachments.MediaBounds
    allow_urls: bool
    mmproj: Path | None


def run(words: Sequence[str], chat: Callable[[Runtime, options.ChatOptions], int], fetch: Callable[[str], None]) -> int:
    """Run the command and return its exit code; ``chat`` is what runs without a prompt. Raises LoqalError.

    ``fetch`` gets a published model that is not on this machine.
    """
    job = _understand(_parser().parse_intermixed_args(list(words)), fetch)
    mmproj = job.mmproj or job.model.mmproj
    with loqal.load(job.model.path, **job.settings, mmproj=mmproj, allow_urls=job.allow_urls) as model:
        if not job.prompt and job.prompt_ids is None:
            chosen = options.ChatOptions(job.params, job.system, job.think, job.verbose, job.media, job.bounds)
            return chat(model, chosen)
        if job.prompt_ids is not None or job.is_raw:
            stream = model.stream_generate(job.prompt if job.prompt_ids is None else job.prompt_ids, job.params)
        else:
            messages = [Message("system", job.system)] if job.system else []
            question = attachments.message(job.prompt, job.media)
            stream = model.stream_chat([*messages, question], job.params, think=job.think)
        with stream:
            if job.as_json:
                for _ in stream:
                    pass
                terminal.print_line(json.dumps(_record(stream.reply), ensure_ascii=False))
            else:
                terminal.print_reply(stream)
        if job.verbose:
            terminal.print_note(terminal.summary(stream.reply))
    return 0


def _parser() -> options.Parser:
    parser = options.Parser("loqal run", "Answer a prompt, or chat without one.", _USAGE)
    parser.add_argument("words", nargs="*", metavar="[MODEL] PROMPT", help=argparse.SUPPRESS)
    group = parser.add_argument_group("request")
    group.add_argument("--system", metavar="TEXT", help="system message")
    group.add_argument(
        "--think",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="enable or disable thinking (default: that of the model's template)",
    )
    group.add_argument(
        "--raw", action="store_true", help="no chat template; control tokens in the prompt are read as control tokens"
    )
    group.add_argument("--prompt-ids", metavar="1,2,3", help="continue these token ids instead of a text")
    group.add_argument("--json", action="store_true", help="print JSON instead of the text")
    group.add_argument("--verbose", action="store_true", help="print token counts and speeds to stderr")
    attachments.add_flags(parser)
    options.add_sampling_flags(parser)
    options.add_setting_flags(parser)
    return parser


def _understand(parsed: argparse.Namespace, fetch: Callable[[str], None]) -> _Job:
    """Check everything that can be checked before a model is loaded. Raises RequestError."""
    params, settings = options.sampling_params(parsed), options.setting_values(parsed)
    bounds = attachments.bounds(parsed)
    words, media = attachments.taken_out(parsed.words, bounds)
    media = (*media, *attachments.of_flags(parsed, bounds))
    model, prompt = _split(words)
    if find.is_absent_name(model):
        terminal.print_note(f"{model} is not on this machine yet.")
        fetch(str(model))
    # Imported where it is used, so that --help answers at once.
    from loqal.runtime import open_model

    path = open_model.find(model)
    prompt_ids = None if parsed.prompt_ids is None else options.token_ids(parsed.prompt_ids)
    piped = "" if prompt_ids is not None or sys.stdin.isatty() else _read_stdin()
    prompt = "\n\n".join(text for text in (prompt, piped) if text)
    is_raw = parsed.raw or prompt_ids is not None
    if prompt_ids is not None and prompt:
        raise RequestError(
            "The prompt is given as text and as ids.",
            "A request has one prompt.",
            "Leave out --prompt-ids or the text.",
        )
    if is_raw and media:
        raise RequestError(
            "A raw prompt cannot hold images or videos.",
            "The chat template places them.",
            "Drop --raw and --prompt-ids.",
        )
    if is_raw and (parsed.system is not None or parsed.think is not None):
        raise RequestError(
            "--system, --think and --no-think have no effect on a raw prompt.",
            "They are written by the chat template, which --raw and --prompt-ids leave out.",
            "Write the control tokens into the prompt, or drop --raw.",
        )
    if not prompt.strip() and prompt_ids is None:
        if parsed.json or is_raw or not sys.stdin.isatty():
            raise RequestError(
                "The prompt is empty.",
                "A chat needs a terminal, without --json and --raw.",
                'Give a prompt: loqal run MODEL "Hello!"',
            )
        prompt = ""
    return _Job(
        model=path,
        prompt=prompt,
        prompt_ids=prompt_ids,
        system=parsed.system,
        params=params,
        settings=settings,
        think=parsed.think,
        is_raw=is_raw,
        as_json=parsed.json,
        verbose=parsed.verbose,
        media=media,
        bounds=bounds,
        allow_urls=parsed.allow_urls,
        mmproj=None if parsed.mmproj is None else Path(parsed.mmproj),
    )


def _split(words: Sequence[str]) -> tuple[str | None, str]:
    """Model and prompt. A first word that cannot be a model because it holds spaces begins the prompt."""
    if not words or find.is_model(words[0]) or not any(space in words[0] for space in " \n\t"):
        return (words[0] if words else None), " ".join(words[1:])
    terminal.print_note(f"No model named, so the embedded one answers (loqal run {find.EMBEDDED} ...).")
    return None, " ".join(words)


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(
            "The piped input is not text.", f"Byte {error.start} is not UTF-8.", "Convert the input to UTF-8."
        ) from None


def _record(reply: Reply) -> dict[str, Any]:
    """The JSON record of a reply. ``logprobs`` is there when it was asked for."""
    record = dataclasses.asdict(reply)
    if reply.logprobs is None:
        del record["logprobs"]
    return record
