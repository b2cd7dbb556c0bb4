"""Templates of model files: what they render, what stays content, and what stops them."""

from __future__ import annotations

import time
from datetime import datetime
from functools import cache
from typing import Any

import pytest

from chat_vocabulary import SPECIAL, tokenizer
from loqal.chat.template import sandbox
from loqal.chat.template.from_file import SandboxedTemplate
from loqal.chat.template.segments import Segment, joined
from loqal.errors import RequestError, UnsupportedError
from loqal.types.messages import MediaPart, Message, TextPart, ToolCall

CHATML = """
{%- macro body(content) %}
    {%- if content is string %}{{ content }}{% else %}
        {%- for part in content %}
            {%- if part.type == 'text' %}{{ part.text }}
            {%- else %}{{ '<|vision_start|><|' ~ part.type ~ '_pad|><|vision_end|>' }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
{%- endmacro %}
{%- if tools %}{{ '<|im_start|>system\\n' }}
    {%- for tool in tools %}{{ tool | tojson ~ '\\n' }}{% endfor %}{{ '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.reasoning_content %}{{ '<think>' ~ message.reasoning_content ~ '</think>' }}{% endif %}
    {{- body(message.content) | trim }}
    {%- for call in message.tool_calls or [] %}
        {{- '<tool_call><' ~ call.function.name ~ '>' }}
        {%- for key, value in call.function.arguments.items() %}
            {{- '<' ~ key ~ '>' ~ (value if value is string else value | tojson) ~ '</' ~ key ~ '>' }}
        {%- endfor %}
        {{- '</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' ~ ('<think>' if enable_thinking else '') }}{% endif %}
"""


def conversation(word: str) -> list[Message]:
    return [
        Message("system", word),
        Message("user", (TextPart(f"a {word}"), MediaPart("image", 1), TextPart(word), MediaPart("video", 2))),
        Message("assistant", f"{word} b", reasoning=word, tool_calls=[ToolCall(word, {word: word, "n": [1, word]})]),
        Message("tool", f"{word}\n"),
    ]


@cache
def own(source: str = CHATML, **options: Any) -> SandboxedTemplate:
    return SandboxedTemplate(source, SPECIAL, **options)


def run(source: str, *messages: Message) -> str:
    return joined(own(source).render(messages or [Message("user", "hello")], think=True))


def test_text_equals_the_plain_rendering() -> None:
    messages, tools = conversation("wörd 'q' \"d\" & <b> \\ {{ x }}"), [{"name": "t", "d": '<é> "q" |'}]
    segments = own().render(messages, tools=tools, think=True)
    assert joined(segments) == own().text(messages, tools, enable_thinking=True, add_generation_prompt=True)
    assert "<b>" in joined(segments)


def test_media_slots_carry_their_parts() -> None:
    segments = own().render(conversation("x"), think=True)
    slots = [segment for segment in segments if segment.media]
    assert [slot.media and slot.media.source for slot in slots] == [1, 2]
    assert [slot.text for slot in slots] == [
        f"<|vision_start|><|{kind}_pad|><|vision_end|>" for kind in ("image", "video")
    ]


@pytest.mark.parametrize("source", ["{{ messages[0].content }}", "<|image_pad|>", "<|video_pad|><|image_pad|>"])
def test_media_that_find_no_slot_are_refused(source: str) -> None:
    with pytest.raises(RequestError, match="place the images"):
        own(source).render([Message("user", [MediaPart("image"), MediaPart("image")])], think=True)


@pytest.mark.parametrize("name", SPECIAL)
def test_no_text_of_a_caller_becomes_a_control_token(name: str) -> None:
    """Neither whole, nor without its brackets, nor in halves that the template puts side by side."""

    def control(word: str) -> list[int]:
        tools = [{"name": word, word: [word], "description": f"see {word}"}]
        ids = tokenizer().encode(own().render(conversation(word), tools=tools, think=True))
        return [token_id for token_id in ids if token_id in special]

    special = set(tokenizer().special_ids.values())
    plain = control("plain words")
    assert len(plain) > 10
    bare = name.strip("<|>")
    for word in (name, bare, f"|{bare}|", f"/{bare}", f" {bare}\n", name[1:], name[:-1]):
        assert control(word) == plain, word
    glue = own("{{ '<|' ~ messages[0].content ~ '|>' }}{{ '<' ~ messages[0].content ~ messages[1].content }}")
    for cut in range(1, len(name)):
        segments = glue.render([Message("user", name[:cut]), Message("user", name[cut:])], think=True)
        assert not set(tokenizer().encode(segments)) & special


def test_private_characters_of_a_caller_survive() -> None:
    text = "\U000f0000\U000f003c <b> \U000f0080 \U0010fffd |"
    segments = own().render([Message("user", text)], think=False)
    assert text in joined(segments)
    assert Segment("<", is_template=False) in segments


def test_json_for_the_template_is_the_references() -> None:
    value = {"b": "é <&>", "a": [1, True, None, {"z": 1.5, "y": "\n"}]}
    template = own(
        "{{ tools[0] | tojson }}\n{{ tools[0] | tojson(indent=2) }}\n{{ tools[0] | tojson(ensure_ascii=true) }}"
    )
    first, rest = joined(template.render([Message("user", "x")], tools=[value], think=True)).split("\n", 1)
    assert first == '{"b": "é <&>", "a": [1, true, null, {"z": 1.5, "y": "\\n"}]}'
    assert rest.startswith('{\n  "b": "é <&>",\n')
    assert rest.endswith('{"b": "\\u00e9 <&>", "a": [1, true, null, {"z": 1.5, "y": "\\n"}]}')


def test_the_template_language_is_that_of_chat_templates() -> None:
    assert run("{% generation %}x{% endgeneration %}") == "x"
    assert run("{% for i in range(9) %}{% if i > 2 %}{% break %}{% endif %}{{ i }}{% endfor %}") == "012"
    assert (
        run("{% set ns = namespace(n=1) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}")
        == "2"
    )
    assert run("  {% if true %}\nx\n  {% endif %}\ny") == "x\ny"
    assert run("{{ messages[0].content.replace('l', 'LL', 1) | upper }}{{ ['a', 'b'] | join('-') }}") == "HELLLOa-b"
    assert run("{{ ', '.join(['a', 'b']) }}{{ messages | map(attribute='role') | join }}") == "a, buser"
    assert run("{{ bos_token }}{{ eos_token }}{{ missing is defined }}") == "<|im_end|>False"
    now = own("{{ strftime_now('%d %B %Y') }}", now=lambda: datetime(2026, 3, 2))
    assert joined(now.render([Message("user", "x")], think=True)) == "02 March 2026"


def test_reasoning_inside_the_text_is_handed_over_apart() -> None:
    history = [Message("user", "q"), Message("assistant", "<think>\nwhy\n</think>\n\nso"), Message("user", "r")]
    text = joined(own(splits_reasoning=True).render(history, think=False))
    assert "assistant\n<think>why</think>so<|im_end|>" in text
    assert "assistant\n<think>\nwhy\n</think>\n\nso<|im_end|>" in joined(own().render(history, think=False))


def test_refusals_of_the_template_reach_the_caller() -> None:
    with pytest.raises(RequestError, match="only user messages"):
        run("{{ raise_exception('only user messages') }}")
    with pytest.raises(RequestError, match="undefined"):
        run("{{ a.b.c }}")
    with pytest.raises(RequestError):
        run("{{ 'a' + 1 }}")


@pytest.mark.parametrize("source", ["{% if %}", "{{ x | no_such_filter }}", "{% include 'a' %}{% endfor %}", "{{"])
def test_broken_templates_are_refused_when_loaded(source: str) -> None:
    with pytest.raises(UnsupportedError, match="cannot be used"):
        own(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__closure__ }}",
        "{{ range.__class__ }}{{ namespace.__init__.__globals__['os'] }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({'role': 'x'}) }}",
        "{{ self._TemplateReference__context }}{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{% import 'os' as os %}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ '%s' % ''.__class__ }}",
        "{{ (messages | map('attr', '__class__')) | list }}",
        "{{ messages | map(attribute='__class__') | list | string + lipsum.__globals__ }}",
    ],
)
def test_templates_cannot_reach_python(source: str) -> None:
    try:
        text = run(source)
    except (RequestError, UnsupportedError):
        return
    assert not text.strip("[]")


NESTED = "{% for a in range(9999) %}" * 4 + "{% endfor %}" * 4
BOMBS = [
    NESTED,
    "{% for i in range(10**9) %}{% endfor %}",
    "{% for i in range(999999) %}{% for j in range(999999) %}x{% endfor %}{% endfor %}",
    "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(1) }}",
    "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(60) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "{% set ns = namespace(s='xx') %}{% for i in range(60) %}{% set ns.s = ns.s.replace('x', 'xx') %}{% endfor %}",
    "{% set ns = namespace(s='xx') %}{% for i in range(60) %}{% set ns.s = ns.s | replace('x', 'xx') %}{% endfor %}",
    "{% set ns = namespace(s='xx') %}{% for i in range(60) %}{% set ns.s = ns.s.join([ns.s, ns.s]) %}{% endfor %}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{% set ns = namespace(s=[1]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
    "{{ 'x' * 10**10 }}",
    "{{ [0] * 10**10 }}",
    "{{ 10**10 * 'x' }}",
    "{{ 9**9**9 }}",
    "{{ 2 ** 10**9 }}",
    "{{ 'x'.ljust(10**10) }}",
    "{{ 'x'.center(10**10) | length }}",
    "{{ 'x' | center(10**10) }}",
    "{{ '%10000000000d' % 1 }}",
    "{{ '{:>10000000000}'.format(1) }}",
    "{{ '\\t'.expandtabs(10**10) }}",
    "{{ messages | tojson(indent=10**9) }}",
    "{{ range(10**12) | list }}",
    "{{ 'x' | wordwrap(1) }}{{ lipsum(n=10**6) }}",
    "{% set ns = namespace(n=2) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}{{ ns.n }}",
]


@pytest.mark.parametrize("source", BOMBS)
def test_exhausting_templates_are_stopped(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, value in (("MAX_STEPS", 100_000), ("MAX_CHARS", 1 << 22), ("MAX_ITEMS", 50_000)):
        monkeypatch.setattr(sandbox, limit, value)  # the same bounds, sooner
    started = time.process_time()
    with pytest.raises((RequestError, UnsupportedError)):
        run(source)
    assert time.process_time() - started < 8


def test_a_long_conversation_is_no_bomb() -> None:
    words = "some words of a long text " * 2000
    messages = [Message("user" if i % 2 == 0 else "assistant", words) for i in range(101)]
    assert len(joined(own().render(messages, think=True))) > 5_000_000
