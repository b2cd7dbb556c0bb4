"""Endless samples of the tasks with a picture or a video; templates split as in ``tasks``, fonts as in ``drawing``."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, product

import words as w
from drawing import COLOURS, KINDS, MOVES, TOKEN, Picture, chart, page, scene, video
from tasks import Level, Sample, split, syllables

IMAGE_RECEIPT_LINES = (
    ("{q} x {item}", "{p}"),
    ("{item} x{q}", "{p}"),
    ("{q} {item}", "{p}"),
    ("{q}x {item}", "{p}"),
    ("{item} ({q})", "{p}"),
    ("{item} {q} @", "{p}"),
    ("{item}", "{q} x {p}"),
)
IMAGE_RECEIPT_TOTALS = ("Total", "TOTAL", "Sum", "To pay", "Amount due", "Total:")
IMAGE_RECEIPT_FRAMES = (
    "Receipt to JSON.",
    "Turn this receipt into JSON.",
    "Read the receipt and answer in JSON.",
    "Give this receipt as JSON.",
    "JSON of this receipt, please.",
    "What is on this receipt? Answer in JSON.",
)
IMAGE_RECEIPT_TEMPLATES = tuple(
    (left, right, total, frame)
    for (left, right), total, frame in product(IMAGE_RECEIPT_LINES, IMAGE_RECEIPT_TOTALS, IMAGE_RECEIPT_FRAMES)
)


def receipt_image(rng: random.Random, fresh: bool, level: Level) -> Sample:
    """A photographed receipt, to be written as JSON with its lines and its total."""
    left, right, total_word, frame = rng.choice(split(IMAGE_RECEIPT_TEMPLATES, fresh))
    rows, printed, cents = [], [], 0
    for _ in range(min(rng.choice((1, 1, 2, 2, 3, 3, 4, 5)), level.most_lines)):
        item = rng.choice(w.ITEMS)
        quantity, price = rng.randrange(1, 10), rng.randrange(10, 2000)
        text = f"{price / 100:.2f}"
        rows.append(f'{{"item":{json.dumps(item)},"quantity":{quantity},"price":{text}}}')
        printed.append(tuple(part.format(item=item, q=quantity, p=text) for part in (left, right)))
        cents += quantity * price
    total = f"{cents / 100:.2f}"
    head = [(rng.choice(w.SHOPS), "")] if rng.random() < 0.4 else []
    foot = [(rng.choice(("Thank you!", "Card payment", "Cash", "See you soon!")), "")] if rng.random() < 0.2 else []
    picture = page(rng, [*head, *printed, (total_word, total), *foot], fresh)
    answer = f'{{"lines":[{",".join(rows)}],"total":{total}}}'
    template = "/".join((left, right, total_word, frame))
    return Sample("receipt image", template, frame, answer, "I copy the lines.", pictures=(picture,))


DOCUMENT_FRAMES = tuple(
    (text,)
    for text in (
        "Read the text.",
        "What does it say?",
        "What words are in the picture?",
        "Copy the text.",
        "Write down the text.",
        "Transcribe this.",
        "Which text is this?",
        "Read this.",
        "Transcribe the picture.",
        "What does the picture say?",
        "Give me the text.",
        "Type out the text.",
        "Please read this.",
        "What text do you see?",
        "Write out what you read.",
        "Text?",
    )
)


def phrase(rng: random.Random) -> str:
    """One to three words or numbers, short enough for a line."""
    makers = (
        lambda: rng.choice(w.OBJECTS),
        lambda: rng.choice(w.NAMES),
        lambda: rng.choice(w.ITEMS),
        lambda: rng.choice(w.CITIES),
        lambda: str(rng.randrange(10 ** rng.randrange(1, 5))),
        lambda: f"{rng.randrange(2000) / 100:.2f}",
        lambda: syllables(rng),
        lambda: rng.choice("ABCDEFGHKLMNPRSTUVWXYZ") + str(rng.randrange(100)),
    )
    text = " ".join(rng.choice(makers)() for _ in range(rng.choice((1, 2, 2, 3))))
    return text if len(text) <= 20 else text[:20].rsplit(" ", 1)[0]


def document(rng: random.Random, fresh: bool, level: Level) -> Sample:
    """Short rendered text, to be written down."""
    frame = rng.choice(split(DOCUMENT_FRAMES, fresh))[0]
    counts = (1, 2, 3, 4)[: level.most_lines] if fresh else (1, 2, 4, 8)  # full pages teach reading soonest
    lines = [phrase(rng) for _ in range(rng.choice(counts))]
    picture = page(rng, [(line, "") for line in lines], fresh)
    return Sample("document", frame, frame, "\n".join(lines), "I read the lines.", pictures=(picture,))


COUNT_FRAMES = tuple(
    (text,)
    for text in (
        "How many {} are there?",
        "Count the {}.",
        "How many {} do you see?",
        "Number of {}?",
        "How many {}?",
        "What is the number of {}?",
        "Count all {}.",
        "How many {} are in the picture?",
        "How many {} can you see?",
        "Please count the {}.",
        "Tell me the number of {}.",
        "Count {}.",
        "How many {} are shown?",
        "How many {} does the picture have?",
        "Give the number of {}.",
        "Count every one of the {}.",
    )
)
BOX_FRAMES = tuple(
    (text,)
    for text in (
        "Where is the {}?",
        "Find the {}.",
        "Box of the {}?",
        "Give the box of the {}.",
        "Locate the {}.",
        "Show me the {}.",
        "Mark the {}.",
        "Detect the {}.",
        "Box around the {}?",
        "Where can I see the {}?",
        "Point out the {}.",
        "Give the place of the {}.",
        "Find the box of the {}.",
        "Please locate the {}.",
        "Draw a box around the {}.",
        "In which place is the {}?",
    )
)
PAIRS = tuple(product(COLOURS, KINDS))
ROWS = "abcdefgh"


def place(x: float, y: float) -> str:
    """The token a shape lies in, as on a chess board: row letter, column number."""
    return f"{ROWS[int(y // TOKEN)]}{int(x // TOKEN) + 1}"


def crowd(rng: random.Random, most: int = 9) -> tuple[Picture, str | None, str | None]:
    """A scene in which the shapes of one colour, one kind or both number 0 to ``most``: with that colour and kind."""
    colour, kind = rng.choice(PAIRS)
    asked_colour, asked_kind = rng.choice(((colour, kind), (colour, kind), (colour, None), (None, kind)))
    count = rng.randrange(most + 1)
    inside = [(c, k) for c, k in PAIRS if asked_colour in (None, c) and asked_kind in (None, k)]
    outside = [pair for pair in PAIRS if pair not in inside]
    wanted = [rng.choice(inside) for _ in range(count)]
    wanted += [rng.choice(outside) for _ in range(rng.randrange(0 if count else 1, max(2, most + 1 - count)))]
    rng.shuffle(wanted)
    return scene(rng, wanted), asked_colour, asked_kind


def counted(rng: random.Random, picture: Picture, colour: str | None, kind: str | None, fresh: bool) -> Sample:
    """How many of a colour, a kind or both there are; the reasoning goes row by row and adds up."""
    name = f"{colour or ''} {kind or 'shape'}s".strip()
    frame = rng.choice(split(COUNT_FRAMES, fresh))[0]
    rows = [int(s.y // TOKEN) for s in picture.shapes if colour in (None, s.colour) and kind in (None, s.kind)]
    added = accumulate(rows.count(row) for row in range(len(ROWS)))
    thought = " ".join(
        f"{letter}{rows.count(row)}={sum_}" for row, (letter, sum_) in enumerate(zip(ROWS, added, strict=True))
    )
    # Saying the question again brings what is asked for next to where the picture is looked at.
    answer = f"{name}: {len(rows)}"
    return Sample("count", frame, frame.format(name), answer, f"{name}: {thought}", pictures=(picture,))


def count(rng: random.Random, fresh: bool, level: Level) -> Sample:
    """Shapes to be counted."""
    return counted(rng, *crowd(rng), fresh)


PLACE_FRAMES = ("What is at {}?", "Which shapes are at {}?", "{}?")
TALLY_FRAMES = ("Count the {}.", "How many {}?", "{}?")


def placed(rng: random.Random, picture: Picture) -> Sample:
    """What lies at some places, sometimes nothing: for training, as it is what finding and counting rest on."""
    there = {place(s.x, s.y): f"{s.colour} {s.kind}" for s in picture.shapes}
    places = rng.sample(sorted(there), min(len(there), 8))
    places += [f"{rng.choice(ROWS)}{rng.randrange(1, 9)}" for _ in range(rng.randrange(3))]
    rng.shuffle(places)
    asked = rng.choice(PLACE_FRAMES).format(", ".join(places))
    answer = ", ".join(f"{at}: {there.get(at, 'nothing')}" for at in places)
    return Sample("place", asked, asked, answer, pictures=(picture,))


def tallied(rng: random.Random, picture: Picture, groups: Sequence[tuple[str | None, str | None]]) -> Sample:
    """Several counts at once, for training."""
    counts = [counted(rng, picture, *group, False).answer for group in groups]
    names = ", ".join(count.split(":")[0] for count in counts)
    asked = rng.choice(TALLY_FRAMES).format(names)
    return Sample("tally", asked, asked, ", ".join(counts), pictures=(picture,))


def located(rng: random.Random, picture: Picture) -> Sample | None:
    """Where the shapes are of which there is one, for training; None when there is no such shape."""
    pairs = [(s.colour, s.kind) for s in picture.shapes]
    single = [s for s in picture.shapes if pairs.count((s.colour, s.kind)) == 1]
    if not single:
        return None
    names = {f"{s.colour} {s.kind}": place(s.x, s.y) for s in rng.sample(single, min(len(single), 6))}
    answer = ", ".join(f"{name}: {at}" for name, at in names.items())
    return Sample("where", "where", f"Where is {', '.join(names)}?", answer, pictures=(picture,))


def boxed(rng: random.Random, picture: Picture, fresh: bool) -> Sample | None:
    """The box of a shape of which there is one, in the family's way; None when there is no such shape."""
    pairs = [(s.colour, s.kind) for s in picture.shapes]
    single = [s for s in picture.shapes if pairs.count((s.colour, s.kind)) == 1]
    if not single:
        return None
    shape, frame = rng.choice(single), rng.choice(split(BOX_FRAMES, fresh))[0]
    name = f"{shape.colour} {shape.kind}"
    answer = f'{{"bbox_2d":[{",".join(map(str, shape.box()))}],"label":"{name}"}}'
    return Sample("box", frame, frame.format(name), answer, f"{name}: {place(shape.x, shape.y)}", pictures=(picture,))


def box(rng: random.Random, fresh: bool, level: Level) -> Sample:
    """A named shape to be found."""
    while True:
        picture = scene(rng, rng.sample(PAIRS, rng.randrange(1, 6)))
        sample = boxed(rng, picture, fresh)
        if sample is not None:
            return sample


CHART_FRAMES = tuple(
    (text,)
    for text in (
        "Which bar is the largest?",
        "What is the highest bar?",
        "Name the tallest bar.",
        "Which bar is the tallest?",
        "Which is the biggest bar?",
        "Label of the highest bar?",
        "Tell me the tallest bar.",
        "Who has the largest bar?",
        "Name the highest bar.",
        "Which bar is the highest?",
        "What is the largest bar?",
        "Give the label of the tallest bar.",
        "Tell me the largest bar.",
        "Which label has the highest bar?",
        "The biggest bar?",
        "What is the tallest bar called?",
    )
)
SHORT_LABELS = [name for name in w.NAMES if len(name) <= 4] + w.listed(
    "Mon Tue Wed Thu Fri Sat Sun Q1 Q2 Q3 Q4 2021 2022"
)


def largest(rng: random.Random, fresh: bool, level: Level) -> Sample:
    """A bar chart, of which the largest bar is asked."""
    frame = rng.choice(split(CHART_FRAMES, fresh))[0]
    labels = rng.sample(SHORT_LABELS, rng.randrange(2, 6))
    best = rng.randrange(len(labels))
    top = rng.uniform(0.4, 1)
    heights = [top if i == best else rng.uniform(0.08, top - 0.1) for i in range(len(labels))]
    picture = chart(rng, labels, heights, fresh)
    return Sample("chart", frame, frame, labels[best], "I compare the bars.", pictures=(picture,))


MOTION_FRAMES = tuple(
    (text,)
    for text in (
        "Which way does it move?",
        "In which direction does the shape move?",
        "Where is it going?",
        "Direction of motion?",
        "Which direction?",
        "What is the direction of the motion?",
        "Where does the {} go?",
        "How does the {} move?",
        "Which way does the {} go?",
        "Where is the {} going?",
        "In which direction does it go?",
        "Tell me the direction of the motion.",
        "Where does it move to?",
        "Direction of the {}?",
        "Which way is the {} moving?",
        "What direction does it move in?",
    )
)


def motion(rng: random.Random, fresh: bool, level: Level) -> Sample:
    """A short video of a moving shape."""
    frame = rng.choice(split(MOTION_FRAMES, fresh))[0]
    direction, (colour, kind) = rng.choice(sorted(MOVES)), rng.choice(PAIRS)
    clip = video(rng, direction, kind, colour)
    return Sample("motion", frame, frame.format(kind), direction, "I compare the frames.", pictures=(clip,))


VISION_TASKS = {
    "receipt image": receipt_image,
    "document": document,
    "count": count,
    "box": box,
    "chart": largest,
    "motion": motion,
}


def several(rng: random.Random, level: Level) -> Sample:
    """A training sample with several questions about one scene, which cost little more than one."""
    # What few shapes are is learnt at once, and many from there.
    picture, *first = crowd(rng, rng.choice((1, 2, 2, 4, 9, 9)))
    groups = [rng.choice(PAIRS)]  # mostly there is none
    for one in picture.shapes:
        groups += [(one.colour, one.kind), (one.colour, None), (None, one.kind)]
    rest = [group for group in dict.fromkeys(rng.sample(groups, len(groups))) if group != tuple(first)]
    asked = [placed(rng, picture), tallied(rng, picture, rest[:6])]
    found = located(rng, picture), boxed(rng, picture, False) if rng.random() < 0.3 else None
    asked += [sample for sample in found if sample is not None]
    rng.shuffle(asked)
    # The last one may be thought about, which the others may not.
    asked.insert(rng.choice((0, len(asked), len(asked))), counted(rng, picture, *first, False))
    turns = tuple((sample.user, sample.answer) for sample in asked[:-1])
    return replace(asked[-1], turns=turns)
