"""Endless samples of the tasks with a picture or a video; templates split as in ``tasks``, fonts as in ``drawing``."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product

import words as w
from drawing import COLOURS, KINDS, MOVES, TOKEN, Picture, Shape, chart, page, scene, video
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
PLACES = tuple(f"{row}{column}" for row in ROWS for column in range(1, len(ROWS) + 1))


def place(shape: Shape) -> str:
    """The token a shape lies in, as on a chess board: row letter, column number."""
    x, y = shape.middle()
    return f"{ROWS[int(y // TOKEN)]}{int(x // TOKEN) + 1}"


def matches(pair: tuple[str, str], colour: str | None, kind: str | None) -> bool:
    """Whether a shape is of a colour, a kind or both."""
    return colour in (None, pair[0]) and kind in (None, pair[1])


def plural(colour: str | None, kind: str | None) -> str:
    """What shapes of a colour, a kind or both are called."""
    return f"{colour or ''} {kind or 'shape'}s".strip()


def crowd(rng: random.Random, most: int = 9, on_edges: float = 0) -> tuple[Picture, str | None, str | None]:
    """A scene in which the shapes of one colour, one kind or both number 0 to ``most``: with that colour and kind."""
    colour, kind = rng.choice(PAIRS)
    asked_colour, asked_kind = rng.choice(((colour, kind), (colour, kind), (colour, None), (None, kind)))
    count = rng.randrange(most + 1)
    inside = [pair for pair in PAIRS if matches(pair, asked_colour, asked_kind)]
    outside = [pair for pair in PAIRS if pair not in inside]
    wanted = [rng.choice(inside) for _ in range(count)]
    wanted += [rng.choice(outside) for _ in range(rng.randrange(0 if count else 1, max(2, most + 1 - count)))]
    rng.shuffle(wanted)
    return scene(rng, wanted, on_edges), asked_colour, asked_kind


def added_up(
    found: Iterable[tuple[str, tuple[str, str] | None]], colour: str | None, kind: str | None, first_only: bool = False
) -> str:
    """The reasoning of counts and boxes: places, what lies there, and how many of those asked for came so far.

    Asked for are shapes of a colour, a kind or both. All there is to see is what lies at a place; comparing and adding
    up is left to the text. ``first_only`` ends at the first one.
    """
    number, said = 0, [f"{colour or 'any'} {kind or 'shape'}:"]
    for at, pair in found:
        if pair is None:
            said.append(at)
            continue
        # Whether two words are the same is learnt where they stand side by side, and colours before kinds.
        compared = [(is_, asked) for is_, asked in zip(pair, (colour, kind), strict=True) if asked]
        if len(compared) == 2 and pair[0] != colour:
            compared.pop()
        number += all(is_ == asked for is_, asked in compared)
        words = " ".join(f"{is_} {asked} {'yes' if is_ == asked else 'no'}" for is_, asked in compared)
        said.append(f"{at}: {words} {number}")
        if first_only and number:
            break
    return " ".join(said)


def scan(picture: Picture) -> Iterator[tuple[str, tuple[str, str] | None]]:
    """Every place, row by row, with the colour and the kind of what lies there."""
    there = {place(s): (s.colour, s.kind) for s in picture.shapes}
    return ((at, there.get(at)) for at in PLACES)


def counted(rng: random.Random, picture: Picture, colour: str | None, kind: str | None, fresh: bool) -> Sample:
    """How many of a colour, a kind or both there are."""
    name, frame = plural(colour, kind), rng.choice(split(COUNT_FRAMES, fresh))[0]
    number = sum(matches((s.colour, s.kind), colour, kind) for s in picture.shapes)
    # Saying the question again brings what is asked for next to where the picture is looked at.
    answer, thought = f"{name}: {number}", added_up(scan(picture), colour, kind)
    return Sample("count", frame, frame.format(name), answer, thought, pictures=(picture,))


def count(rng: random.Random, fresh: bool, level: Level) -> Sample:
    """Shapes to be counted."""
    return counted(rng, *crowd(rng), fresh)


PLACE_FRAMES = ("What is at {}?", "Which shapes are at {}?", "{}?")


def placed(rng: random.Random, picture: Picture) -> Sample:
    """What lies at some places, sometimes nothing: for training, as it is what finding and counting rest on."""
    there = {place(s): f"{s.colour} {s.kind}" for s in picture.shapes}
    places = rng.sample(sorted(there), min(len(there), 8))
    places += [f"{rng.choice(ROWS)}{rng.randrange(1, 9)}" for _ in range(rng.randrange(3))]
    rng.shuffle(places)
    asked = rng.choice(PLACE_FRAMES).format(", ".join(places))
    answer = ", ".join(f"{at}: {there.get(at, 'nothing')}" for at in places)
    return Sample("place", asked, asked, answer, pictures=(picture,))


def tallied(rng: random.Random) -> Sample:
    """Shapes given in words, to be counted; for training, as many of them cost as much as one picture."""
    colour, kind = rng.choice(((None, rng.choice(KINDS)), (rng.choice(sorted(COLOURS)), None), rng.choice(PAIRS)))
    wanted = [pair for pair in PAIRS if matches(pair, colour, kind)]
    pairs = [rng.choice(wanted if rng.random() < 0.4 else PAIRS) for _ in range(rng.randrange(1, 16))]
    while sum(matches(pair, colour, kind) for pair in pairs) > 9:
        pairs.pop()
    places = rng.sample(range(len(PLACES)), len(pairs))
    found = [(PLACES[at], pair) for at, pair in zip(sorted(places), pairs, strict=True)]
    name, frame = plural(colour, kind), rng.choice(split(COUNT_FRAMES, False))[0]
    listed = ", ".join(f"{at} {' '.join(pair)}" for at, pair in found)
    asked = rng.choice(("{}\n{}", "{1}\n{0}")).format(frame.format(name), listed)
    answer = f"{name}: {sum(matches(pair, colour, kind) for pair in pairs)}"
    return Sample("tally", frame, asked, answer, added_up(found, colour, kind))


def boxed(rng: random.Random, picture: Picture, fresh: bool) -> Sample | None:
    """The box of a shape of which there is one, in the family's way; None when there is no such shape."""
    pairs = [(s.colour, s.kind) for s in picture.shapes]
    single = [s for s in picture.shapes if pairs.count((s.colour, s.kind)) == 1]
    if not single:
        return None
    shape, frame = rng.choice(single), rng.choice(split(BOX_FRAMES, fresh))[0]
    name = f"{shape.colour} {shape.kind}"
    answer = f'{{"bbox_2d":[{",".join(map(str, shape.box()))}],"label":"{name}"}}'
    thought = added_up(scan(picture), shape.colour, shape.kind, first_only=True)
    return Sample("box", frame, frame.format(name), answer, thought, pictures=(picture,))


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


IN_WORDS = 0.12  # of the scenes; half, while comparing and adding up are new


def several(rng: random.Random, level: Level) -> Sample:
    """A training sample of one scene: a count or a box, half of the time after what lies at some places."""
    if rng.random() < IN_WORDS:
        return tallied(rng)
    # What few shapes are is learnt at once, many from there, and sides of an edge of tokens from many close to one.
    picture, *asked = crowd(rng, rng.choice((1, 2, 4, 9, 9, 9)), on_edges=0.4)
    sample = boxed(rng, picture, False) if rng.random() < 0.3 else None
    sample = sample or counted(rng, picture, *asked, False)
    before = placed(rng, picture) if rng.random() < 0.5 else None
    return replace(sample, turns=((before.user, before.answer),)) if before else sample
