"""A call's text is taken apart where its values end, however its tags are dropped."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loqal.chat.output.call_text import ParameterNames, argument_texts, function_name

KEYS = st.text("abc-. 1", min_size=1, max_size=4).filter(lambda key: key == key.strip())
TEXTS = st.text('ab</>=\n {}"é', max_size=10) | st.sampled_from(
    [
        "<function=g>\n<parameter=a>\n1\n</parameter>\n</function>",
        "a</parameter> b",
        "<parameter=",
        "</tool_call>",
        "<b>",
    ]
)
NONE = ParameterNames()


def of_template(arguments: dict[str, str]) -> str:
    parameters = (f"<parameter={key}>\n{text}\n</parameter>\n" for key, text in arguments.items())
    return f"<function=f>\n{''.join(parameters)}</function>"


@given(st.dictionaries(KEYS, TEXTS, max_size=4), st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_what_the_template_writes_is_read_back(arguments: dict[str, str], closed: bool, is_known: bool) -> None:
    """Unless a value holds the tag of an open parameter."""
    names = ParameterNames(known=tuple(arguments) if is_known else ())
    if not any(f"<parameter={key}>" in text for key in arguments for text in arguments.values() if is_known):
        assert argument_texts(of_template(arguments), names, closed=closed) == arguments


@given(
    st.dictionaries(KEYS, st.text("ab =\n{é", min_size=1, max_size=6).filter(lambda text: text == text.strip())),
    st.data(),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_closing_tags_may_be_missing(arguments: dict[str, str], data: st.DataObject) -> None:
    body = "<function=f>" + data.draw(st.sampled_from(["", "\n", " \n"]))
    for key, text in arguments.items():
        begin = data.draw(st.sampled_from(["\n", "", " "]))
        end = data.draw(st.sampled_from(["", "\n", "</parameter>", "\n</parameter>\n", "</parameter> "]))
        body += f"<parameter={key}>{begin}{text}{end}"
    names = ParameterNames(known=tuple(arguments))
    assert argument_texts(body, names, closed=True) == arguments
    assert argument_texts(body, names, closed=False) is None
    if not arguments or body.rstrip().endswith("</parameter>"):
        assert argument_texts(body + "</function>\n", names, closed=False) == arguments


@pytest.mark.parametrize("key", ["a", "b", "z"])
def test_tags_of_parameters_that_cannot_come_are_text(key: str) -> None:
    """The one that is read, one that was given, and one that is not declared."""
    names = ParameterNames(known=("a", "b", "c"))
    body = f"<function=f><parameter=a>1<parameter=b>x<parameter={key}>y<parameter=c>3"
    assert argument_texts(body, names, closed=True) == {"a": "1", "b": f"x<parameter={key}>y", "c": "3"}


@pytest.mark.parametrize("value", [{"a": "</parameter>\n<parameter=b>\n1"}, ["<parameter=b>"], {"b": "</function>"}])
def test_json_is_read_to_its_end(value: object) -> None:
    text = json.dumps(value)
    for body in (
        of_template({"a": text, "b": "2"}),
        f"<function=f><parameter=a>{text}<parameter=b>2</parameter></function>",
    ):
        names = ParameterNames(known=("a", "b"), json=("a", "b"))
        assert argument_texts(body, names, closed=True) == {"a": text, "b": "2"}


@pytest.mark.parametrize(
    "body",
    [
        "<function=f>",
        "<function=f>\n<parameter=a>\n1\n</parameter>\n",
        "<function=f>\n<parameter=a>\n1\n</function>",
        "<function=f>\nwords\n</function>",
        "<function=f>\n<parameter=>\n1\n</parameter>\n</function>",
        "<function=f>\n<parameter=a\nb>\n1\n</parameter>\n</function>",
        "<function=f>\n<parameter=a>\n1\n</parameter>\n<parameter=a>\n2\n</parameter>\n</function>",
    ],
)
def test_what_is_no_complete_call(body: str) -> None:
    assert argument_texts(body, NONE, closed=False) is None


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("<function=f>", "f"),
        ("<function= a b >\nx", "a b"),
        ("<function=ä.b>", "ä.b"),
        ("<function=f", None),
        ("<function=>", None),
        ("<function= >", None),
        ("<function=a\nb>", None),
        ("<function=a<b>", None),
        ("\n<function=f>", None),
        ("", None),
    ],
)
def test_names_of_functions(body: str, name: str | None) -> None:
    assert function_name(body) == name


@pytest.mark.parametrize(
    "part", ["<function=g>", "</parameter>", "<parameter=a>", "</parameter>\n<", "</function>", "{", " "]
)
def test_long_values_take_linear_time(part: str) -> None:
    names = ParameterNames(known=("a", "b"), json=("b",))
    begin = time.process_time()
    for key in ("a", "b"):
        argument_texts(f"<function=f>\n<parameter={key}>\n" + part * 30_000 + "x", names, closed=True)
    assert time.process_time() - begin < 2
