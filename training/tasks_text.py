"""More endless samples without pictures: triage, tools, JSON by schema, copying and editing of code-like text."""

from __future__ import annotations

import json
import random
import re
from itertools import product

import words as w
from tasks import ANSWERS, INTENT_FRAMES, Level, Sample, intent, name, small_talk, split, syllables, word

# Triage: what a small model beside a large one would decide ----------------------------------------------------------

TRIAGE_FRAMES = tuple(
    (text,)
    for text in (
        "Triage: {}",
        "Triage this request: {}",
        "Should this be escalated? {}",
        "Route this request.\n{}",
        "{}\nTriage?",
        "Who should answer this?\n{}",
        "Keep or escalate: {}",
        "{}\nShould I escalate this?",
        "Should I escalate this? {}",
        "{}\nEscalate this or not?",
        "Escalate? {}",
        "{}\nDoes this need escalation?",
        "Does this have to be escalated?\n{}",
        "{}\nTriage this request.",
        "Please triage: {}",
        "{}\nRoute this.",
        "{}\nIs this to be escalated?",
        "Shall we escalate this?\n{}",
        "Pass this on or keep it?\n{}",
        "{}\nKeep it or escalate it?",
        "Triage the following.\n{}",
        "{}\nWho should answer this?",
        "Is it safe to answer this here? {}",
        "{}\nIntent, escalation, confidence?",
        "Give intent, escalation and confidence for this: {}",
        "Decide whether to escalate: {}",
        "{}\nShould this go to a larger model?",
        "Do I have to escalate?\n{}",
        "{}\nPlease triage.",
        "Escalation check: {}",
        "Can you triage this? {}",
        "{}\nEscalate?",
        "Please route this: {}",
        "{}\nCan you triage this?",
        "Look at this request and triage it: {}",
        "{}\nDecide whether to escalate.",
        "Is this for you or for a larger model? {}",
        "{}\nKeep it here or pass it on?",
        "Can this be answered here?\n{}",
        "Answer here or escalate: {}",
        "{}\nAnswer here or escalate?",
        "Tell me whether to escalate: {}",
        "{}\nTell me whether to escalate this.",
        "Should a larger model answer this? {}",
        "{}\nIs this too hard for you?",
        "Is this too hard for a small model?\n{}",
        "Check whether to escalate this.\n{}",
        "{}\nCheck this for escalation.",
        "Does this need a larger model? {}",
        "{}\nDoes this need a person?",
        "Keep this or hand it on: {}",
        "{}\nHand this on or keep it?",
        "Where should this request go?\n{}",
        "{}\nWhere should this go?",
        "Where does this belong? {}",
        "Escalation needed? {}",
        "{}\nIs escalation needed?",
        "Judge this request.\n{}",
        "{}\nJudge whether to escalate.",
        "Triage, please: {}",
        "{}\nTriage this for me.",
        "Give the triage of this: {}",
        "{}\nWhat is the triage of this?",
        "How should this be triaged? {}",
        "{}\nHow would you route this?",
        "How would you triage this?\n{}",
        "Here is a request. Triage it.\n{}",
        "{}\nCan you answer this, or should it be escalated?",
        "Who is to answer? {}",
        "{}\nWho is to answer this?",
        "Here is what somebody asks. Route it.\n{}",
        "This is a request. Should it be escalated?\n{}",
        "This came in today. Triage it.\n{}",
        "I have a request here. Keep it or escalate it?\n{}",
        "Here is a question. Who should answer it?\n{}",
        "Someone wrote this. Triage, please.\n{}",
        "Look at this. Escalate it?\n{}",
        "There is a new request. Triage.\n{}",
        "A user says this. Should I escalate?\n{}",
        "Read this request. Judge whether to escalate.\n{}",
        "Here is a message. Decide whether to escalate it.\n{}",
        "A request came in. Can you answer it?\n{}",
        "One more request. Give its triage.\n{}",
        "Take this request. Route it.\n{}",
        "Here is the next one. Keep or escalate?\n{}",
        "This is what I got. Triage it for me.\n{}",
        "{}\nThat is the request. Triage it.",
        "{}\nThis was the request. Should it be escalated?",
        "{}\nThat came in. Route it, please.",
        "{}\nHere you see a request. Escalate it?",
    )
)


def triage(rng: random.Random, fresh: bool, level: Level) -> Sample:
    """A request to be named, kept or passed on to a larger model, with a confidence.

    A wish of a known intent is kept; what is beyond a small model is passed on; of a wish cut short or in
    made-up words the model is not sure, and it is passed on too.
    """
    frame = rng.choice(split(TRIAGE_FRAMES, fresh))[0]
    kind = rng.choices(("clear", "beyond", "cut", "noise"), (6, 3, 1, 1))[0]
    label, escalate, confidence = "other", True, 0.9
    if kind == "clear":
        sample = intent(rng, fresh)
        frames = sorted((f[0] for f in INTENT_FRAMES), key=len, reverse=True)
        text = next(t for f in frames if (t := _inner(sample.user, f)) is not None)
        label, escalate, core = sample.answer, False, sample.template
    elif kind == "beyond":
        sample = small_talk(rng, fresh)
        while sample.answer != ANSWERS["beyond"]:
            sample = small_talk(rng, fresh)
        text, core = sample.user, sample.template
    else:
        text, core, confidence = " ".join(syllables(rng) for _ in range(rng.randrange(2, 6))), "noise", 0.3
        if kind == "cut":
            text, core = (
                rng.choice(("can you", "please", "I want", "could you please", "it is", "do you", "tell", "the")),
                "cut",
            )
            text = f"{text} {syllables(rng)}"
    answer = json.dumps({"intent": label, "escalate": escalate, "confidence": confidence}, separators=(",", ":"))
    return Sample("triage", f"{frame}/{core}", frame.format(text), answer, "I weigh the request.")


def _inner(text: str, frame: str) -> str | None:
    before, after = frame.split("{}")
    fits = text.startswith(before) and text.endswith(after)
    return text[len(before) : len(text) - len(after)] if fits else None


# Tools ---------------------------------------------------------------------------------------------------------------

CALCULATOR = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Computes an expression.",
        "parameters": {
            "type": "object",
            "properties": {"expression": {"type": "string"}},
            "required": ["expression"],
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "Tells the time in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TOOL_RULES = (
    "\n</tools>\n\nIf you choose to call a function ONLY reply in the following format with NO suffix:\n\n"
    "<tool_call>\n<function=example_function_name>\n<parameter=example_parameter_1>\nvalue_1\n</parameter>\n"
    "<parameter=example_parameter_2>\nThis is the value for the second parameter\nthat can span\nmultiple lines\n"
    "</parameter>\n</function>\n</tool_call>\n\n<IMPORTANT>\nReminder:\n"
    "- Function calls MUST follow the specified format: an inner <function=...></function> block must be nested "
    "within <tool_call></tool_call> XML tags\n- Required parameters MUST be specified\n"
    "- You may provide optional reasoning for your function call in natural language BEFORE the function call, "
    "but NOT after\n- If there is no function call available, answer the question like normal with your current "
    "knowledge and do not tell the user about function calls\n</IMPORTANT>"
)
CALCULATOR_FRAMES = tuple(
    (text,)
    for text in (
        "What is {a} {s} {b}?",
        "Compute {a} {s} {b}.",
        "How much is {a} {s} {b}?",
        "{a} {s} {b}",
        "Please work out {a} {s} {b}.",
        "Calculate {a} {s} {b}.",
        "I need {a} {s} {b}.",
        "Tell me {a} {s} {b}.",
        "{a} {s} {b} = ?",
        "Please calculate {a} {s} {b}",
        "Work out {a} {s} {b}",
        "Give me {a} {s} {b}.",
        "Can you compute {a} {s} {b}?",
        "What does {a} {s} {b} make?",
        "The result of {a} {s} {b}?",
        "Evaluate {a} {s} {b}.",
    )
)
CLOCK_FRAMES = tuple(
    (text,)
    for text in (
        "What time is it in {c}?",
        "Time in {c}?",
        "How late is it in {c}?",
        "Tell me the time in {c}.",
        "What is the time in {c} now?",
        "Which time is it in {c}?",
        "What does the clock say in {c}?",
        "Is it late in {c}?",
        "Give me the time in {c}.",
        "Do you know what time it is in {c}?",
        "Current time in {c}?",
        "What time do they have in {c}?",
        "Please tell me how late it is in {c}.",
        "Look up the time in {c}.",
        "I need the time in {c}.",
        "The time in {c}, please.",
    )
)


def tool_system(tools: tuple[dict[str, object], ...]) -> str:
    """The system text with which the family's template offers tools."""
    listed = "".join(f"\n{json.dumps(tool, ensure_ascii=False)}" for tool in tools)
    return f"# Tools\n\nYou have access to the following functions:\n\n<tools>{listed}{TOOL_RULES}"


def call_text(function: str, key: str, value: str) -> str:
    """A call in the family's form."""
    return f"<tool_call>\n<function={function}>\n<parameter={key}>\n{value}\n</parameter>\n</function>\n</tool_call>"


def _asked(rng: random.Random, fresh: bool) -> tuple[str, str, str, str, str]:
    """A question, the call it needs, the call's result, the answer, and the template."""
    if rng.random() < 0.6:
        frame, sign = rng.choice(split(CALCULATOR_FRAMES, fresh))[0], rng.choice("+-*")
        a, b = (rng.randrange(10 ** rng.randrange(1, 5)) for _ in range(2))
        question, result = frame.format(a=a, b=b, s=sign), str({"+": a + b, "-": a - b, "*": a * b}[sign])
        call, answer = call_text("calculator", "expression", f"{a} {sign} {b}"), f"{a} {sign} {b} = {result}"
    else:
        frame, city = rng.choice(split(CLOCK_FRAMES, fresh))[0], rng.choice(w.CITIES)
        result = f"{rng.randrange(24):02d}:{rng.randrange(60):02d}"
        question, call = frame.format(c=city), call_text("clock", "city", city)
        answer = f"It is {result} in {city}."
    return question, call, f"<tool_response>\n{result}\n</tool_response>", answer, frame


def tool(rng: random.Random, fresh: bool, level: Level, rounds: int = 1) -> Sample:
    """Questions that a calculator or a clock answers: the call, and after its result the answer."""
    turns: list[tuple[str, str]] = []
    for left in range(rounds, 0, -1):
        question, call, response, answer, frame = _asked(rng, fresh)
        # Within the last loop of calls the template keeps the reply's (empty) reasoning.
        turns.append((question, call if left > 1 else f"<think>\n\n</think>\n\n{call}"))
        if left > 1:
            turns.append((response, answer))
    tools = ((CALCULATOR, CLOCK), (CLOCK, CALCULATOR))[rng.random() < 0.5]
    return Sample("tool", frame, response, answer, None, tool_system(tools), turns=tuple(turns), tools=tools)


# JSON by schema ------------------------------------------------------------------------------------------------------

FACTS = {
    "name": ("string", ("{n} is the name", "the name is {n}"), lambda rng: name(rng)),
    "age": ("integer", ("age {n}", "{n} years old"), lambda rng: rng.randrange(1, 100)),
    "city": ("string", ("from {n}", "lives in {n}"), lambda rng: rng.choice(w.CITIES)),
    "animal": ("string", ("has a {n}", "with a {n}"), lambda rng: rng.choice(w.ANIMALS)),
    "colour": ("string", ("likes {n}", "wears {n}"), lambda rng: rng.choice(w.OBJECTS[:8])),
    "room": ("string", ("in the {n}", "waits in the {n}"), lambda rng: rng.choice(w.ROOMS)),
    "count": ("integer", ("count {n}", "{n} pieces"), lambda rng: rng.randrange(1000)),
    "member": ("boolean", ("a member: {n}", "member {n}"), lambda rng: rng.random() < 0.5),
}
SCHEMA_FRAMES = (
    "Fill the schema {s} from: {t}",
    "{t}\nGive this as JSON: {s}",
    "JSON with {s} for this text: {t}",
    "Extract {s}\n{t}",
    "Schema: {s}\nText: {t}",
    "{t}\nSchema: {s}",
)
SCHEMA_TEMPLATES = tuple(product(SCHEMA_FRAMES, (", ", "; ", ". ")))


def schema(rng: random.Random, fresh: bool, level: Level) -> Sample:
    """Facts in any order, to be written as JSON with the keys of a schema in the schema's order."""
    frame, gap = rng.choice(split(SCHEMA_TEMPLATES, fresh))
    keys = rng.sample(sorted(FACTS), rng.randrange(2, 6))
    values = {key: FACTS[key][2](rng) for key in keys}
    spoken = {True: "yes", False: "no"}
    texts = [
        rng.choice(FACTS[key][1]).format(
            n=spoken.get(values[key], values[key]) if FACTS[key][0] == "boolean" else values[key]
        )
        for key in rng.sample(keys, len(keys))
    ]
    wanted = rng.sample(keys, rng.randrange(max(1, len(keys) - 1), len(keys) + 1))
    shape = json.dumps({key: FACTS[key][0] for key in wanted}, separators=(",", ":"))
    answer = json.dumps({key: values[key] for key in wanted}, separators=(",", ":"))
    return Sample("schema", f"{frame}{gap}", frame.format(s=shape, t=gap.join(texts)), answer, "I fill the keys.")


# Code ----------------------------------------------------------------------------------------------------------------

CODE_LINES = (
    "{a} = {n}",
    "{a} = {b} + {n}",
    "{a} = {b} * {c}",
    "print({a})",
    "if {a} > {n}:",
    "    return {a}",
    "for {a} in {b}:",
    "    {a}.append({n})",
    "def {a}({b}, {c}):",
    "{a} = {b}({c}, {n})",
    '{a} = "{w}"',
    "while {a} < {b}:",
    "    {a} += {n}",
    "return {a} - {b}",
    "import {a}",
    "{a} = [{n}, {m}]",
    "# {w} {x}",
)
PLAIN_LINES = tuple(line for line in CODE_LINES if not re.search(r"(^|[^ ])\{[abc]", line))  # names follow spaces
PLAIN_RENAMES = 0.2  # of the renames in training; nearly all, while they are new
CODE_FRAMES = {
    "copy": (
        "Copy this code:\n{code}",
        "{code}\nCopy this.",
        "Repeat the code.\n{code}",
        "Write this again:\n{code}",
        "{code}\nRepeat this code.",
        "Copy:\n{code}",
        "{code}\nWrite it again.",
        "Give this back as it is:\n{code}",
        "Print this code again.\n{code}",
        "{code}\nCopy the code above.",
        "Please copy this code.\n{code}",
        "{code}\nSay this once more.",
        "Copy the following lines.\n{code}",
        "Type this again.\n{code}",
        "{code}\nRepeat it, please.",
        "Return this unchanged:\n{code}",
        "Give me the same code.\n{code}",
        "{code}\nThe same again, please.",
        "Here is some code. Copy it.\n{code}",
        "{code}\nPlease write this down again.",
        "Write the same lines:\n{code}",
        "{code}\nReturn the code as it is.",
        "Can you copy this?\n{code}",
        "{code}\nCan you repeat this code?",
        "Make a copy of this code:\n{code}",
        "{code}\nMake a copy.",
        "Echo this code.\n{code}",
        "{code}\nGive me exactly this.",
        "Output this code again:\n{code}",
        "{code}\nWrite these lines once more.",
        "I need a copy of this.\n{code}",
        "{code}\nI need this once more.",
        "Reproduce this code.\n{code}",
        "{code}\nType it out again.",
        "This is my code. Repeat it.\n{code}",
        "{code}\nShow me this code again.",
        "Show this again:\n{code}",
        "{code}\nPrint the lines above.",
    ),
    "rename": (
        "Rename {old} to {new}:\n{code}",
        "{code}\nRename {old} to {new}.",
        "Replace {old} by {new}.\n{code}",
        "{code}\nCall {old} {new} instead.",
        "Change {old} to {new}.\n{code}",
        "{code}\nReplace {old} with {new}.",
        "In this code, rename {old} to {new}.\n{code}",
        "{code}\nChange every {old} to {new}.",
        "Rename {old} as {new} in this code:\n{code}",
        "{code}\nPlease rename {old} to {new}.",
        "Use {new} instead of {old}.\n{code}",
        "{code}\nThe name {old} should be {new}.",
        "Replace the name {old} with {new}:\n{code}",
        "{code}\nUse the name {new} for {old}.",
        "Let {old} be called {new}.\n{code}",
        "{code}\nPut {new} in place of {old}.",
        "Give {old} the name {new}.\n{code}",
        "{code}\nGive {old} the name {new}.",
        "Here is some code. Rename {old} to {new}.\n{code}",
        "{code}\nWrite {new} for {old}.",
        "Write {new} where it says {old}:\n{code}",
        "{code}\nRename every {old} to {new}.",
        "Can you rename {old} to {new}?\n{code}",
        "{code}\nCan you replace {old} by {new}?",
        "Swap {old} for {new}.\n{code}",
        "{code}\nSwap {old} for {new}, please.",
        "From now on {old} is {new}.\n{code}",
        "{code}\nTurn {old} into {new}.",
        "Turn {old} into {new}:\n{code}",
        "{code}\nI want {old} to be called {new}.",
        "I want {new} instead of {old}.\n{code}",
        "{code}\nInstead of {old} use {new}.",
        "Please change {old} into {new}.\n{code}",
        "{code}\nRename {old}. Its new name is {new}.",
        "{old} is now called {new}. Change the code.\n{code}",
        "{code}\nHere {old} should read {new}.",
        "Substitute {new} for {old}.\n{code}",
        "{code}\nSubstitute {new} for {old}.",
    ),
    "delete": (
        "Delete line {n}:\n{code}",
        "{code}\nDelete line {n}.",
        "Remove line {n} of this code.\n{code}",
        "{code}\nWithout line {n}, please.",
        "Drop line {n}.\n{code}",
        "{code}\nRemove line {n}.",
        "Delete line {n} of this code.\n{code}",
        "{code}\nTake out line {n}.",
        "Take line {n} out of this code.\n{code}",
        "{code}\nLeave out line {n}.",
        "Give this without line {n}.\n{code}",
        "{code}\nDelete the line with number {n}.",
        "Leave line {n} out:\n{code}",
        "{code}\nPlease remove line {n}.",
        "Line {n} has to go.\n{code}",
        "{code}\nDrop line {n}, please.",
        "Here is some code. Delete line {n}.\n{code}",
        "{code}\nLine {n} can go.",
        "Without line {n}:\n{code}",
        "{code}\nCut line {n}.",
        "Cut line {n} out of this.\n{code}",
        "{code}\nCan you delete line {n}?",
        "Can you remove line {n}?\n{code}",
        "Skip line {n}.\n{code}",
        "{code}\nSkip line {n}.",
        "Erase line {n} here:\n{code}",
        "I do not need line {n}.\n{code}",
        "Get rid of line {n}.\n{code}",
        "{code}\nGet rid of line {n}.",
        "Everything but line {n}, please.\n{code}",
        "{code}\nTake line {n} away.",
    ),
}
# More wordings of renames, by parts, for training only: which name is which in a new wording takes many of them.
OLD = ("{old}", "the name {old}", "every {old}", "all {old}", "the word {old}", "the variable {old}")
RENAME_PARTS = (
    (
        ("Rename", "Please rename", "Can you change", "Change", "Replace", "Now replace", "Swap", "Turn"),
        OLD,
        ("to {new}", "into {new}", "by {new}", "with {new}", "as {new}", "and call it {new}", "for {new}"),
    ),
    (
        ("Write", "Put", "Use", "Please write", "Say", "I want", "Take"),
        ("{new}", "the name {new}"),
        ("where it says", "wherever it says", "where you see", "in place of", "instead of", "for"),
        OLD,
    ),
    (
        ("I want {old}", "I would like {old}", "Let {old}", "{old} has", "{old} ought", "I need {old}"),
        ("to be called", "to be named", "to be", "to become", "to have the name", "to be replaced by"),
        ("{new}", "{new} now", "{new}, please"),
    ),
    (
        ("Rename {old}.", "Change {old}.", "Look for {old}.", "There is {old}.", "Take {old}:", "The name is {old}."),
        ("Its new name is {new}", "The new name is {new}", "Call it {new}", "It is now {new}", "Make it {new}"),
    ),
)


def fenced(lines: list[str]) -> str:
    """Lines of code between fences."""
    return "\n".join(["```", *lines, "```"])


def code_frames(kind: str, fresh: bool) -> list[str]:
    """One side of the split of a kind's wordings."""
    return [text for (text,) in split(tuple((text,) for text in CODE_FRAMES[kind]), fresh)]


def lines_with(rng: random.Random, names: list[str], count: int, forms: tuple[str, ...]) -> list[str]:
    """Lines of code in which the names stand."""
    lines = []
    for _ in range(count):
        a, b, c = rng.sample(names, 3)
        numbers = {"n": rng.randrange(100), "m": rng.randrange(100), "w": word(rng), "x": word(rng)}
        lines.append(rng.choice(forms).format(a=a, b=b, c=c, **numbers))
    return lines


def plain_rename(rng: random.Random) -> Sample:
    """A rename in few lines with names of a token each, in which putting one in the place of another is learnt."""
    frame = rng.choice([text for text in code_frames("rename", False) if re.search(r"\{old\} \w+ \{new\}", text)])
    *names, new = rng.sample(w.OBJECTS, 4)
    text = fenced(lines_with(rng, names, rng.randrange(1, 4), PLAIN_LINES))
    old = max(names, key=text.count)
    user = frame.format(code=text, old=old, new=new)
    return Sample("code rename", f"rename/{frame}", user, text.replace(old, new), "I go line by line.")


def rename_frame(rng: random.Random) -> str:
    """A wording of a rename for training, made of parts; none that is held out, wherever the code stands."""
    asked = " ".join(rng.choice(part) for part in rng.choice(RENAME_PARTS))
    if any(asked in text for text in code_frames("rename", True)):
        return rename_frame(rng)
    return rng.choice((asked + ":\n{code}", asked + ".\n{code}", "{code}\n" + asked + ".", "{code}\n" + asked))


def code(rng: random.Random, fresh: bool, level: Level, kind: str | None = None) -> Sample:
    """Code-like lines, to be copied, or to be given back with a name changed or a line left out."""
    kind = kind or rng.choices(("copy", "rename", "delete"), (4, 4, 1) if fresh else (2, 8, 1))[0]
    if kind == "rename" and not fresh and rng.random() < PLAIN_RENAMES:
        return plain_rename(rng)
    is_composed = kind == "rename" and not fresh and rng.random() < 0.75
    frame = rename_frame(rng) if is_composed else rng.choice(code_frames(kind, fresh))
    names = list(dict.fromkeys(rng.choice((word, syllables))(rng) for _ in range(rng.randrange(4, 8))))
    if len(names) < 3:
        return code(rng, fresh, level, kind)
    lines = lines_with(rng, names, rng.randrange(2, 7), CODE_LINES)
    used = [one for one in names if any(one in line for line in lines)]
    if not used:
        return code(rng, fresh, level, kind)
    if not fresh:  # what to put in another's place is learnt from where it is put
        used.sort(key=lambda one: sum(one in line for line in lines))
        used = used[len(used) // 2 :]
    old, new, n = rng.choice(used), syllables(rng), rng.randrange(1, len(lines) + 1)
    # Between fences, as people paste it: without them nothing but the meaning of a wording says where the code ends.
    text = fenced(lines)
    answer = {"copy": text, "rename": text.replace(old, new), "delete": fenced(lines[: n - 1] + lines[n:])}[kind]
    user = frame.format(code=text, old=old, new=new, n=n)
    return Sample(f"code {kind}", f"{kind}/{frame}", user, answer, "I go line by line.")


TEXT_TASKS = {"triage": triage, "tool": tool, "schema": schema, "code": code}
