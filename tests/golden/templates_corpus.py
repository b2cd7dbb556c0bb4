"""The conversations whose renderings are recorded in templates.json. Texts are our own."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def user(content: Any) -> Json:
    return {"role": "user", "content": content}


def system(content: Any) -> Json:
    return {"role": "system", "content": content}


def tool(content: Any) -> Json:
    return {"role": "tool", "content": content}


def assistant(content: Any, reasoning: str | None = None, calls: tuple[Json, ...] = ()) -> Json:
    message: Json = {"role": "assistant", "content": content}
    if reasoning is not None:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = [{"type": "function", "function": call} for call in calls]
    return message


def call(name: str, **arguments: Any) -> Json:
    return {"name": name, "arguments": arguments}


def text(words: str) -> Json:
    return {"type": "text", "text": words}


IMAGE, VIDEO = {"type": "image"}, {"type": "video"}

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": 'Tell the weather of a place <now> & "later", in °C',
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "a town, e.g. Köln"},
                "days": {"type": "integer", "minimum": 1, "default": 3},
                "units": {"type": "string", "enum": ["metric", "imperial"]},
            },
            "required": ["place"],
        },
    },
}
SEARCH = {"type": "function", "function": {"name": "search", "parameters": {"type": "object", "properties": {}}}}
BARE = {"name": "bare", "description": "not wrapped in function", "z": 1, "a": [True, None, 1.5, {"k": "v"}]}

LOOP = [
    user("What is the weather in Rome?"),
    assistant("", "I have to look.", (call("weather", place="Rome", days=2),)),
    tool("sunny"),
]

CONVERSATIONS: dict[str, Json] = {
    "hello": {"messages": [user("Hello!")]},
    "system": {"messages": [system("Be brief."), user("Hello!")]},
    "no generation prompt": {"messages": [user("Hello!"), assistant("Hi.")], "add_generation_prompt": False},
    "two turns": {"messages": [user("Hello!"), assistant("Hi."), user("How are you?")]},
    "odd white space": {
        "messages": [system("\n\t Be brief. \n"), user("  \u00a0Hello!\u2003\r\n"), assistant("\n x \n")]
    },
    "inner white space": {"messages": [user("a\n\n\nb\t\tc   d\r\ne")]},
    "empty user": {"messages": [user("")]},
    "blank system": {"messages": [system("  \n"), user("q")]},
    "blank system with tools": {"messages": [system("  \n"), user("q")], "tools": [WEATHER]},
    "unicode": {"messages": [system("Réponds en français 🥖"), user("שלום नमस्ते สวัสดี 👩‍👩‍👧‍👦 e\u0301 \u200d")]},
    "angle brackets": {"messages": [user("if a < b && c > d: print('<b>&amp;</b>')")]},
    "template language": {"messages": [user("{{ messages }} {% raw %} {# x #} \\n %} }}")]},
    "text parts": {"messages": [user([text(" one "), text("two"), text(" three ")])]},
    "blank parts": {"messages": [user([text("  "), text(""), text(" x "), text("\n")])]},
    "no parts": {"messages": [user([])]},
    "image": {"messages": [user([IMAGE, text("What is this?")])]},
    "image last": {"messages": [user([text(" What is this? "), IMAGE])]},
    "image alone": {"messages": [user([IMAGE])]},
    "images and a video": {"messages": [user([text("a "), IMAGE, text(" b "), VIDEO, IMAGE, text(" c ")])]},
    "blank before image": {"messages": [user([text("  \n"), IMAGE, text("  ")])]},
    "numbered media": {
        "messages": [
            user([IMAGE, text("first"), VIDEO]),
            assistant("I see."),
            user([IMAGE, VIDEO, text("second")]),
        ],
        "add_vision_id": True,
    },
    "system text parts": {"messages": [system([text(" You "), text("see. ")]), user([VIDEO])]},
    "reasoning of an earlier turn": {"messages": [user("q"), assistant("a", "because"), user("why?")]},
    "reasoning of the last turn": {"messages": [user("q"), assistant("a", "because")]},
    "reasoning with white space": {"messages": [user("q"), assistant(" a ", "\n\n because \n")]},
    "empty reasoning": {"messages": [user("q"), assistant("a", "")]},
    "inline reasoning": {"messages": [user("q"), assistant("<think>\nbecause\n</think>\n\na")]},
    "inline reasoning, earlier": {"messages": [user("q"), assistant("<think>\nbecause\n</think>\n\na"), user("r")]},
    "inline reasoning without opening": {"messages": [user("q"), assistant("because</think>a")]},
    "inline reasoning twice": {"messages": [user("q"), assistant("<think>x</think>y<think>z</think>\n\nw")]},
    "inline reasoning, nested": {"messages": [user("q"), assistant("a<think>b<think>c</think>d")]},
    "inline reasoning in parts": {"messages": [user("q"), assistant([text("<think>because</th"), text("ink> a")])]},
    "field and inline reasoning": {"messages": [user("q"), assistant("<think>one</think>two", "three")]},
    "unclosed inline reasoning": {"messages": [user("q"), assistant("<think>because")]},
    "tools": {"messages": [user("q")], "tools": [WEATHER, SEARCH, BARE]},
    "tools and system": {"messages": [system(" Be brief. "), user("q")], "tools": [SEARCH]},
    "no tools": {"messages": [system("s"), user("q")], "tools": []},
    "call": {"messages": LOOP[:2], "tools": [WEATHER]},
    "tool result": {"messages": LOOP, "tools": [WEATHER]},
    "answer after tool": {"messages": [*LOOP, assistant("Sunny.", "It says so.")], "tools": [WEATHER]},
    "next question after tool": {"messages": [*LOOP, assistant("Sunny.", "ok"), user("Thanks!")], "tools": [WEATHER]},
    "call after text": {"messages": [user("q"), assistant(" I look. \n", None, (call("search", q="x"),))]},
    "two calls": {"messages": [user("q"), assistant("", None, (call("search", q="x"), call("weather", place="y")))]},
    "two calls after text": {
        "messages": [user("q"), assistant("First.", "r", (call("search"), call("weather", place="y")))]
    },
    "call without arguments": {"messages": [user("q"), assistant("", None, (call("search"),))]},
    "argument types": {
        "messages": [
            user("q"),
            assistant(
                "",
                None,
                (
                    call(
                        "all",
                        yes=True,
                        no=False,
                        none=None,
                        integer=-3,
                        big=12345678901234567890,
                        real=0.1,
                        small=1e-07,
                        large=1e20,
                        empty="",
                        quoted='"x"',
                        lines="a\n  b\n",
                        unicode="é <b> & 'c'",
                        list=[1, "two", None, True, {"k": ["é"]}],
                        dict={"b": 1, "a": {"c": None}},
                        nothing=[],
                        void={},
                    ),
                ),
            ),
        ]
    },
    "tool results together": {
        "messages": [
            user("q"),
            assistant("", None, (call("a"), call("b"))),
            tool(" one "),
            tool("two\n"),
            assistant("done"),
        ]
    },
    "tool then user": {"messages": [user("q"), assistant("", None, (call("a"),)), tool("one"), user("and?")]},
    "tool result with image": {
        "messages": [user("q"), assistant("", None, (call("look"),)), tool([text("see "), IMAGE])]
    },
    "tool result with think tags": {
        "messages": [user("q"), assistant("", None, (call("a"),)), tool("<think>x</think>y")]
    },
    "tool first": {"messages": [tool("r"), tool("s"), user("q")]},
    "long tool loop": {
        "messages": [
            system("s"),
            user("old"),
            assistant("old answer", "old thoughts"),
            user("q"),
            assistant("", "one", (call("a", x=1),)),
            tool("r1"),
            assistant("Next.", "two", (call("b", y=[2]), call("c"))),
            tool("r2"),
            tool("r3"),
            assistant("Done.", "three"),
        ],
        "tools": [SEARCH],
    },
    "tool result disguised": {
        "messages": [
            user("q"),
            assistant("a", "kept"),
            user(" <tool_response>\nr\n</tool_response> "),
            assistant("b", "kept too"),
        ]
    },
    "assistants in a row": {"messages": [user("q"), assistant("a", "x"), assistant("b", "y")]},
    "users in a row": {"messages": [user("a"), user("b")]},
    "assistant first": {"messages": [assistant("Welcome.", "x"), user("q")]},
    "refused: no messages": {"messages": []},
    "refused: no user": {"messages": [system("s"), assistant("a")]},
    "refused: only disguised user": {"messages": [user("<tool_response>r</tool_response>")]},
    "refused: late system": {"messages": [user("q"), system("s")]},
    "refused: second system": {"messages": [system("s"), system("t"), user("q")]},
    "refused: image in system": {"messages": [system([IMAGE]), user("q")]},
    "refused: video in system": {"messages": [system([text("x"), VIDEO]), user("q")], "tools": [SEARCH]},
}
