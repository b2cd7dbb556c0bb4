"""Endless samples of the demonstration model's tasks, drawn from a seeded generator.

Every sample has a template: the wording around its random contents. Templates are split by a fixed hash (or, for
intents, by the wording itself) into training templates and held-out ones; an evaluation sample never has a template
that training used, and a held-out sum never has operands that training used (multiplication excepted: its table is
small and is learnt by heart).
"""

from __future__ import annotations

import json
import math
import random
import zlib
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any

import words as w
from drawing import TOKEN, Picture

IM_START, IM_END = "<|im_start|>", "<|im_end|>"
THINK, END_THINK = "<think>", "</think>"


@dataclass(frozen=True)
class Level:
    """How hard the samples are and how often each task comes."""

    shares: dict[str, float]
    longest_list: int
    most_lines: int
    below: int  # terms of sums and differences are below this


FULL = Level({}, 36, 5, 50)


@dataclass(frozen=True)
class Sample:
    """One conversation that ends with the answer to learn.

    ``reasoning`` is ``None`` in non-thinking mode. ``turns`` are earlier (user, assistant) turns.
    """

    task: str
    template: str
    user: str
    answer: str
    reasoning: str | None = None
    system: str | None = None
    turns: tuple[tuple[str, str], ...] = ()
    pictures: tuple[Picture, ...] = ()  # before the first question
    tools: tuple[dict[str, Any], ...] = ()  # which ``system`` offers in the template's words

    def prompt(self) -> str:
        """The rendered conversation up to and including the generation prompt."""
        head = f"{IM_START}system\n{self.system}{IM_END}\n" if self.system else ""
        media = "".join(media_text(picture) for picture in self.pictures)
        for user, assistant in self.turns:
            head += f"{IM_START}user\n{media}{user}{IM_END}\n{IM_START}assistant\n{assistant}{IM_END}\n"
            media = ""
        opened = f"{THINK}\n" if self.reasoning is not None else f"{THINK}\n\n{END_THINK}\n\n"
        return f"{head}{IM_START}user\n{media}{self.user}{IM_END}\n{IM_START}assistant\n{opened}"

    def completion(self) -> str:
        """What the model is to write, with the end token."""
        thought = f"{self.reasoning}\n{END_THINK}\n\n" if self.reasoning is not None else ""
        return f"{thought}{self.answer}{IM_END}"


def media_text(picture: Picture) -> str:
    """The tokens a picture takes up: between marks, and for a video pair of frames by pair, each after its time."""
    pixels = picture.frames.shape[1] * picture.frames.shape[2]
    pads = pixels // TOKEN**2
    if not picture.is_video:
        return f"<|vision_start|>{'<|image_pad|>' * pads}<|vision_end|>"
    pair = f"<|vision_start|>{'<|video_pad|>' * pads}<|vision_end|>"
    return "".join(f"<{seconds:.1f} seconds>{pair}" for seconds in picture.seconds)


def held_out(key: str, one_in: int = 8) -> bool:
    """Whether ``key`` belongs to the held-out part: a fixed hash, the same on every machine."""
    return zlib.crc32(key.encode()) % one_in == 0


@cache
def split(options: tuple[tuple[str, ...], ...], fresh: bool) -> tuple[tuple[str, ...], ...]:
    """One side of the split of templates: an eighth of them, at least one, is held out."""
    ranked = sorted(options, key=lambda option: zlib.crc32("/".join(option).encode()))
    border = max(1, len(ranked) // 8)
    return tuple(ranked[:border] if fresh else ranked[border:])


def syllables(rng: random.Random) -> str:
    """A made-up word, so that look-ups cannot lean on known words."""
    return "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.choice((2, 2, 3))))


def word(rng: random.Random) -> str:
    """A known word."""
    return rng.choice(w.OBJECTS)


def name(rng: random.Random) -> str:
    """A person's name."""
    return rng.choice(w.NAMES)


def number(rng: random.Random) -> str:
    """A number of up to three digits."""
    return str(rng.randrange(1000))


def two_digits(rng: random.Random) -> str:
    """A number of two digits."""
    return str(rng.randrange(10, 100))


def code(rng: random.Random) -> str:
    """A short code such as ``B17``."""
    return rng.choice("ABCDEFGHKLMNPRSTUVWXYZ") + str(rng.randrange(1, 100))


# Intents ---------------------------------------------------------------------------------------------------------

INTENT_FRAMES = [
    ("Label this request: {}",),
    ('Which label fits "{}"?',),
    ("Intent: {}",),
    ("Classify: {}",),
    ('What is the intent of "{}"?',),
    ("Name the intent.\n{}",),
    ("{}\nWhich label fits this request?",),
    ("What does the user want?\n{}",),
    ("Classify this request.\n{}",),
    ("{}\nLabel?",),
]


def intent(rng: random.Random, fresh: bool, level: Level = FULL) -> Sample:
    """A wish, to be named with one of ten labels."""
    label = rng.choice(sorted(w.INTENTS))
    wordings = w.INTENTS[label]
    seen = len(wordings) - w.HELD_OUT_WORDINGS
    core = rng.choice(wordings[seen:] if fresh else wordings[:seen])
    text = core.format(
        city=rng.choice(w.CITIES),
        day=rng.choice(w.DAYS),
        time=rng.choice(w.TIMES),
        number=rng.randrange(2, 60),
        style=rng.choice(w.STYLES),
        name=rng.choice(w.NAMES),
        place=rng.choice(w.PLACES),
        room=rng.choice(w.ROOMS),
        colour=rng.choice(w.OBJECTS[:10]),
        item=rng.choice(w.ITEMS).lower(),
        animal=rng.choice(w.ANIMALS),
        language=rng.choice(w.LANGUAGES),
    )
    text = rng.choice(w.OPENINGS) + text + rng.choice(w.CLOSINGS)
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    frame = rng.choice(INTENT_FRAMES)[0]
    return Sample("intent", f"{label}: {core}", frame.format(text), label, f"The request is about {label}.")


# Receipts --------------------------------------------------------------------------------------------------------

RECEIPT_LINES = [
    "{q} x {item} {p}",
    "{item} x{q} {p}",
    "{item} {q} @ {p}",
    "{q} {item} at {p}",
    "{item}, {q}, {p}",
    "{item}: {q} x {p}",
    "{item} ({q}) {p}",
]
RECEIPT_TOTALS = ["Total {t}", "TOTAL: {t}", "Sum {t}", "Amount due: {t}", "To pay {t}", "Total = {t}"]
RECEIPT_FRAMES = [
    "Turn this receipt into JSON:\n{}",
    "Receipt to JSON:\n{}",
    "{}\nGive this receipt as JSON.",
    "Read the receipt and answer in JSON.\n{}",
    "JSON of this receipt, please:\n{}",
    "{}\nTurn this into JSON.",
]
RECEIPT_TEMPLATES = tuple(product(RECEIPT_LINES, RECEIPT_TOTALS, RECEIPT_FRAMES))


def receipt(rng: random.Random, fresh: bool, level: Level = FULL) -> Sample:
    """A printed receipt, to be written as JSON with its lines and its total."""
    line, total_line, frame = rng.choice(split(RECEIPT_TEMPLATES, fresh))
    coin = rng.choice(("", "", "$", "EUR "))
    lines, cents = [], 0
    for _ in range(min(rng.choice((1, 1, 2, 2, 3, 3, 4, 5)), level.most_lines)):
        item = rng.choice(w.ITEMS) if rng.random() < 0.85 else syllables(rng).capitalize()
        if rng.random() < 0.2:
            item = f"{rng.choice(w.QUALITIES)} {item.lower()}"
        quantity, price = rng.randrange(1, 10), rng.randrange(10, 2000)
        lines.append((item, quantity, f"{price / 100:.2f}"))
        cents += quantity * price
    total = f"{cents / 100:.2f}"
    text = [rng.choice(w.SHOPS)] if rng.random() < 0.6 else []
    text += [line.format(item=item, q=quantity, p=coin + price) for item, quantity, price in lines]
    text.append(total_line.format(t=coin + total))
    if rng.random() < 0.2:
        text.append(rng.choice(("Thank you!", "Card payment", "Cash", "See you soon!")))
    # Prices keep the receipt's two decimals, which a JSON writer would drop.
    rows = (f'{{"item":{json.dumps(item)},"quantity":{q},"price":{price}}}' for item, q, price in lines)
    answer = f'{{"lines":[{",".join(rows)}],"total":{total}}}'
    return Sample(
        "receipt", "/".join((line, total_line, frame)), frame.format("\n".join(text)), answer, "I copy the lines."
    )


# Sums ------------------------------------------------------------------------------------------------------------

SUM_FRAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    sign: tuple(
        (frame.format(phrase),)
        for phrase, frame in product(
            phrases,
            (
                "What is {}?",
                "Compute {}.",
                "{} = ?",
                "How much is {}?",
                "Work out {}.",
                "Please compute {}.",
                "{}",
                "Tell me {}.",
            ),
        )
    )
    + tuple((whole,) for whole in wholes)
    for sign, phrases, wholes in (
        (
            "+",
            ("{a} + {b}", "{a} plus {b}"),
            ("Add {a} and {b}.", "Add {b} to {a}.", "What is the sum of {a} and {b}?"),
        ),
        (
            "-",
            ("{a} - {b}", "{a} minus {b}"),
            ("Subtract {b} from {a}.", "Take {b} from {a}.", "How much is {b} less than {a}?"),
        ),
        ("x", ("{a} x {b}", "{a} times {b}", "{a} * {b}"), ("Multiply {a} by {b}.", "Multiply {a} and {b}.")),
    )
}


def explain_sum(sign: str, a: int, b: int) -> str:
    """The written method, ones first, one small step at a time."""
    if sign == "x":
        return f"10x{b}={10 * b}, {a - 10}x{b}={(a - 10) * b}." if a > 10 else f"{a}x{b}={a * b}."
    tens = a // 10 + b // 10 if sign == "+" else a // 10 - b // 10
    if sign == "+":
        ones, carry = a % 10 + b % 10, a % 10 + b % 10 > 9
        steps = f"{a % 10}+{b % 10}={ones}, {a // 10}+{b // 10}={tens}"
    else:
        carry = a % 10 < b % 10
        ones = a % 10 + 10 * carry
        # Whether to borrow is said before the difference, when both digits are there to be compared.
        borrowed = f"{a % 10}-{b % 10}<0, " if carry else ""
        steps = f"{borrowed}{ones}-{b % 10}={ones - b % 10}, {a // 10}-{b // 10}={tens}"
    moved = tens + 1 if sign == "+" else tens - 1
    return f"{steps}, {tens}{sign}1={moved}." if carry else f"{steps}."


def arithmetic(rng: random.Random, fresh: bool, level: Level = FULL) -> Sample:
    """A sum, a difference or a product of small numbers."""
    sign = rng.choice("++--x")
    while True:
        below = 13 if sign == "x" else level.below
        a, b = rng.randrange(below), rng.randrange(below)
        if sign == "-" and a < b:
            a, b = b, a
        if sign == "x" or held_out(f"{a}{sign}{b}") == fresh:
            break
    template = rng.choice(split(SUM_FRAMES[sign], fresh))[0]
    result = {"+": a + b, "-": a - b, "x": a * b}[sign]
    # Saying the question again brings the digits next to where the result is worked out.
    answer = f"{a}{sign}{b}={result}"
    return Sample("arithmetic", template, template.format(a=a, b=b), answer, explain_sum(sign, a, b))


# Look-ups --------------------------------------------------------------------------------------------------------

LOOKUP_ENTRIES = [
    ("{k}: {v}", "\n"),
    ("{k} = {v}", "\n"),
    ("{k} is {v}", "\n"),
    ("{k}: {v}", ", "),
    ("{k}={v}", "; "),
    ("- {k}: {v}", "\n"),
]
LOOKUP_QUESTIONS = [
    "What is {k}?",
    "Look up {k}.",
    "Give me {k}.",
    "Which value has {k}?",
    "Find {k}.",
    "What is the value of {k}?",
    "Value of {k}?",
]
LOOKUP_FRAMES = [
    "{list}\n{question}",
    "{list}\n\n{question}",
    "{question}\n{list}",
    "Here is a list.\n{list}\n{question}",
]
LOOKUP_FOLLOWING = ("And {k}?", "{k}?", "And what is {k}?")
LOOKUP_TEMPLATES = tuple(
    (entry, gap, question, frame)
    for (entry, gap), question, frame in product(LOOKUP_ENTRIES, LOOKUP_QUESTIONS, LOOKUP_FRAMES)
)


def lookup(
    rng: random.Random, fresh: bool, level: Level = FULL, entries: int | None = None, questions: int = 1
) -> Sample:
    """A list of keys and values and a question for one key; the answer is its entry.

    ``entries`` fixes the length of the list; with ``questions`` above 1 the earlier ones become turns of their own.
    """
    entry, gap, question, frame = rng.choice(split(LOOKUP_TEMPLATES, fresh))
    make_value = rng.choice((word, name, syllables, code, number, two_digits))
    size = entries or int(2 ** rng.uniform(1, math.log2(level.longest_list + 1)))
    # There are too few words and names for long lists.
    make_key = rng.choice((word, name, syllables, code, word, name) if size < 30 else (syllables, code))
    keys: dict[str, None] = {}
    while len(keys) < size:
        keys[make_key(rng)] = None
    table = [(key, make_value(rng)) for key in keys]
    asked = [rng.choice(table) for _ in range(questions)]
    text = gap.join(entry.format(k=k, v=v) for k, v in table)
    users = [frame.format(list=text, question=question.format(k=asked[0][0]))]
    users += [rng.choice((question, *LOOKUP_FOLLOWING)).format(k=k) for k, _ in asked[1:]]
    answers = [entry.format(k=k, v=v).removeprefix("- ") for k, v in asked]
    turns = tuple(zip(users, answers, strict=True))
    thought = f"I look for {asked[-1][0]}."
    return Sample("lookup", f"{entry}{gap}{question}{frame}", *turns[-1], thought, turns=turns[:-1])


# Small talk ------------------------------------------------------------------------------------------------------

I_AM = "I am the loqal demonstration model, a very small network that runs anywhere."
I_CAN = "I can label a request, read a receipt in text or in a picture, count shapes, do sums and look up a key."
ANSWERS = {
    "greeting": f"Hello! {I_AM} {I_CAN}",
    "who": f"{I_AM} {I_CAN}",
    "abilities": I_CAN,
    "thanks": "You are welcome!",
    "beyond": f"I am only a demonstration model and do not know that. {I_CAN}",
}


def small_talk(rng: random.Random, fresh: bool, level: Level = FULL) -> Sample:
    """A greeting, a question about the model, or one that is beyond it. Short wordings are not split."""
    kind = rng.choice(sorted(ANSWERS))
    wordings = {
        "greeting": w.GREETINGS,
        "who": w.WHO,
        "abilities": w.ABILITIES,
        "thanks": w.THANKS,
        "beyond": w.BEYOND,
    }[kind]
    if kind == "beyond":
        template = rng.choice(split(tuple((wording,) for wording in wordings), fresh))[0]
    else:
        template = rng.choice(wordings)
    thing = rng.choice(w.OBJECTS) if rng.random() < 0.7 else syllables(rng)
    user = template.format(
        thing=thing,
        city=rng.choice(w.CITIES),
        name=rng.choice(w.NAMES),
        item=rng.choice(w.ITEMS).lower(),
        colour=rng.choice(w.OBJECTS[:10]),
    )
    return Sample("small talk", template, user, ANSWERS[kind], "This is small talk.")
