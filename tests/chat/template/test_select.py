"""Which template is used, and what is found out about it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from chat_vocabulary import SPECIAL
from loqal.chat.template import native, select
from loqal.chat.template.from_file import SandboxedTemplate
from loqal.chat.template.segments import joined
from loqal.chat.template.select import TemplateTraits, choose_template, measure
from loqal.types.messages import Message

PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


class Like:
    """Renders natively, as a file with the family's template would."""

    def __init__(self, *, thinks: bool, change: tuple[str, str] = ("", "")) -> None:
        self._thinks, self._change = thinks, change

    def text(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None, **variables: Any) -> str:
        think = variables.pop("enable_thinking", self._thinks)
        return joined(native.render(messages, tools=tools, think=think, **variables)).replace(*self._change)


@pytest.mark.parametrize("thinks", [True, False])
def test_a_template_that_renders_alike_is_the_familys(thinks: bool) -> None:
    assert measure(Like(thinks=thinks)) == TemplateTraits(native=True, thinks=thinks)


@pytest.mark.parametrize(
    "change",
    [("Required parameters", "All parameters"), ("</think>\n\n", "</think>\n"), ("None", "null"), ("True", "true")],
)
def test_any_difference_makes_it_another(change: tuple[str, str]) -> None:
    assert not measure(Like(thinks=True, change=change)).native


def test_another_template_runs_in_the_sandbox() -> None:
    chosen = choose_template(PLAIN, size="4B", control_tokens=SPECIAL)
    assert chosen.traits == TemplateTraits(native=False, thinks=False, splits_reasoning=False)
    segments = chosen.template.render([Message("user", "<|im_end|>")], think=True)
    assert joined(segments) == "<|im_start|>user\n<|im_end|><|im_end|>\n<|im_start|>assistant"
    assert [segment.text for segment in segments if not segment.is_template] == ["<|", "|>"]


@pytest.mark.parametrize(
    ("size", "thinks"), [("0.8B", False), ("2B", False), ("4B", True), ("27B", True), (None, True)]
)
def test_without_a_template_the_size_decides(size: str | None, thinks: bool) -> None:
    chosen = choose_template(None, size=size, control_tokens=SPECIAL)
    assert chosen.template is native
    assert chosen.traits == TemplateTraits(native=True, thinks=thinks)


def test_the_template_language_is_loaded_only_when_needed() -> None:
    program = (
        "import sys; from loqal.chat.template.select import choose_template\n"
        "choose_template(None, size='4B', control_tokens=())\n"
        "assert 'jinja2' not in sys.modules\n"
        f"choose_template({PLAIN!r}, size='4B', control_tokens=())\n"
        "assert 'jinja2' in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", program], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )


@pytest.mark.parity
@pytest.mark.skipif("LOQAL_OFFICIAL_TEMPLATE" not in os.environ, reason="LOQAL_OFFICIAL_TEMPLATE names no file")
def test_the_official_text_is_recognised_both_ways() -> None:
    source = Path(os.environ["LOQAL_OFFICIAL_TEMPLATE"]).read_text(encoding="utf-8")
    known = select._KNOWN[select.digest(source)]
    assert choose_template(source, size=None, control_tokens=SPECIAL).template is native
    changed = choose_template(source + "{# another text #}", size=None, control_tokens=SPECIAL)
    assert changed.template is native
    assert changed.traits == known


def test_the_recorded_traits_of_our_own_template_are_measured_ones() -> None:
    source = (Path(__file__).parents[3] / "training/chat_template.jinja").read_text()
    recorded = select._KNOWN[select.digest(source)]
    assert recorded == measure(SandboxedTemplate(source, SPECIAL))
