"""Prompts of a model that has no weights: the small vocabulary and a template, without eyes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from chat_vocabulary import tokenizer
from loqal.chat.template import native
from loqal.chat.template.from_file import SandboxedTemplate
from loqal.chat.template.select import ChatTemplate, TemplateChoice, TemplateTraits
from loqal.runtime.media_encoder import MediaEncoder, PlannedMedia
from loqal.runtime.prompts import Prompts


class _NoMediaEncoder:
    def plan(self, segments: Any) -> PlannedMedia:
        return PlannedMedia(list(segments), ())


def prompts(template: ChatTemplate = native, *, thinks: bool = False, context_len: int = 4096) -> Prompts:
    choice = TemplateChoice(template, TemplateTraits(native=template is native, thinks=thinks))
    media_encoder = cast(MediaEncoder, _NoMediaEncoder())
    return Prompts(tokenizer(), choice, media_encoder, context_len=context_len, end_ids=None, size=None, file_values={})


def foreign_template() -> ChatTemplate:
    """The family's template as a model file would bring it, run in the sandbox."""
    path = Path(__file__).parents[2] / "training" / "chat_template.jinja"
    return SandboxedTemplate(path.read_text(), tokenizer().special_ids)
