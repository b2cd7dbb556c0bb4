"""Records what the official chat template renders for the conversations of templates_corpus.py.

    python tests/golden/record_templates.py PATH/TO/chat_template.jinja

writes templates.json beside this file. The template runs as the reference implementation runs it: jinja2's immutable
sandbox, blocks trimmed, JSON in key order without escapes.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment
from templates_corpus import CONVERSATIONS

GOLDEN = Path(__file__).with_name("templates.json")


def load(path: Path) -> jinja2.Template:
    """The template as the reference implementation compiles it."""

    def raise_exception(message: str) -> None:
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = raise_exception
    return environment.from_string(path.read_text(encoding="utf-8"))


def draw(template: jinja2.Template, conversation: dict[str, Any], think: bool) -> str | None:
    """The rendering, ``None`` when the template refuses."""
    variables = {"add_generation_prompt": True, "tools": None, **conversation, "enable_thinking": think}
    try:
        return template.render(**variables)
    except jinja2.TemplateError:
        return None


def main() -> None:
    path = Path(sys.argv[1])
    template = load(path)
    cases = []
    for name, conversation in CONVERSATIONS.items():
        thinking, plain = (draw(template, conversation, think) for think in (True, False))
        cases.append({"name": name, **conversation, "thinking": thinking, "plain": plain})
    versions = {"template": hashlib.sha256(path.read_bytes().strip()).hexdigest(), "jinja2": jinja2.__version__}
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    GOLDEN.write_text(f'{{"versions": {json.dumps(versions)},\n"cases": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"{len(cases)} conversations, {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
