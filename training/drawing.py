"""Pictures of the vision tasks: pages of text, scenes of shapes, bar charts, and short videos of one moving shape.

Every picture is drawn from a seeded generator and comes with notes: which letters and which shapes have their middle
in which token of the picture (32 x 32 pixels). The model does not see the notes; its eyes are trained on them.
Fonts of free Debian packages are split: ``SEEN`` are for training, ``FRESH`` only for evaluation.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from words import listed

SIDE, TOKEN = 256, 32  # pixels of a picture's sides and of a token's
SLOTS = 6  # letters a token can hold
COLOURS = {
    "red": (205, 40, 40),
    "blue": (45, 85, 210),
    "green": (40, 150, 60),
    "yellow": (235, 200, 40),
    "purple": (135, 60, 175),
    "black": (35, 35, 35),
}
KINDS = ("circle", "square", "triangle", "star", "diamond")
FOLDERS = (Path("/usr/share/fonts"),)
SEEN = listed(
    "DejaVuSans DejaVuSans-Bold DejaVuSansCondensed DejaVuSansMono DejaVuSansMono-Bold DejaVuSerif "
    "DejaVuSerif-Bold LiberationMono-Regular LiberationMono-Bold LiberationSans-Regular "
    "LiberationSans-Bold LiberationSerif-Regular LiberationSerif-Bold LiberationSansNarrow-Bold "
    "Roboto-Regular Roboto-Medium Roboto-Bold RobotoCondensed-Medium Cantarell-Regular Carlito-Regular "
    "Carlito-Bold Caladea-Regular Hack-Regular Hack-Bold FreeSans FreeSansBold FreeMonoBold "
    "NotoSansMono-Bold"
)
FRESH = listed("OpenSans-Regular OpenSans-Semibold Lato-Medium NotoSansMono-Regular FreeSerifBold")

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Shape:
    """A shape of a scene: kind, colour, middle and radius in pixels."""

    kind: str
    colour: str
    x: float
    y: float
    radius: float

    def box(self) -> tuple[int, ...]:
        """Left, top, right and bottom, in thousandths of the picture's sides."""
        edges = (self.x - self.radius, self.y - self.radius, self.x + self.radius, self.y + self.radius)
        return tuple(min(1000, max(0, round(edge * 100 / SIDE) * 10)) for edge in edges)

    def middle(self) -> tuple[float, float]:
        """Where its middle is seen, in pixels: corners are drawn at whole ones."""
        seen = []
        for axis, middle in enumerate((self.x, self.y)):
            line = [corner[axis] for corner in _outline(self)]
            low, high = min(line), max(line)
            seen.append(middle + (int(low) + int(high) + 1 - low - high) / 2)
        return seen[0], seen[1]


@dataclass(frozen=True)
class Picture:
    """Frames ``[F, H, W, 3]`` (two or more for a video) with notes for the training of the eyes."""

    frames: Pixels
    letters: tuple[tuple[str, float, float], ...] = ()  # letter and its middle
    shapes: tuple[Shape, ...] = ()
    bars: tuple[tuple[tuple[float, float], float], ...] = ()  # left and right edge of a label, height of its bar
    seconds: tuple[float, ...] = field(default=())  # of every pair of frames of a video

    @property
    def is_video(self) -> bool:
        """Whether it moves."""
        return bool(self.seconds)


@cache
def _paths() -> dict[str, Path]:
    found = {path.stem: path for folder in FOLDERS for path in sorted(folder.rglob("*.[to]tf"))}
    missing = [name for name in (*SEEN, *FRESH) if name not in found]
    if missing:
        raise SystemExit(f"Fonts are missing: {' '.join(missing)}. See training/README.md for the packages.")
    return found


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_paths()[name]), size, layout_engine=ImageFont.Layout.BASIC)


def _paper(rng: random.Random, inverse: float = 0.1) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Colours of paper and ink, mostly dark on light."""
    light = tuple(rng.randrange(205, 256) for _ in range(3))
    dark = tuple(rng.randrange(0, 90) for _ in range(3))
    return (light, dark) if rng.random() >= inverse else (dark, light)


def _worn(rng: random.Random, image: Image.Image) -> Pixels:
    """Blur and noise as of a camera."""
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.8)))
    pixels = np.asarray(image, np.float32)
    if rng.random() < 0.6:
        noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(pixels.shape, np.float32)
        pixels = pixels + noise * np.float32(rng.uniform(1, 12))
    return pixels.clip(0, 255).astype(np.uint8)


def _turn(rng: random.Random) -> float:
    return rng.uniform(-3, 3) if rng.random() < 0.6 else 0.0


def _turned(x: float, y: float, degrees: float) -> tuple[float, float]:
    """Where a pixel goes when the picture turns around its middle."""
    angle, middle = math.radians(degrees), SIDE / 2
    dx, dy = x - middle, y - middle
    return middle + dx * math.cos(angle) + dy * math.sin(angle), middle - dx * math.sin(angle) + dy * math.cos(angle)


def page(rng: random.Random, lines: list[tuple[str, str]], fresh: bool) -> Picture:
    """Lines of text, each with a left and a right part (which may be empty), one in each 32 pixels of height."""
    name = rng.choice(FRESH if fresh else SEEN)
    size = rng.randrange(17, 25)
    width = max(_font(name, 20).getlength(left + ("  " if right else "") + right) for left, right in lines) / 20
    size = max(11, min(size, int(240 / max(width, 1))))
    font = _font(name, size)
    paper, ink = _paper(rng)
    image = Image.new("RGB", (SIDE, SIDE), paper)
    draw = ImageDraw.Draw(image)
    first = rng.randrange(0, SIDE // TOKEN - len(lines) + 1)
    shift = rng.uniform(-5, 5)
    longest = max(font.getlength(left + ("  " if right else "") + right) for left, right in lines)
    start = rng.uniform(5, max(5.1, SIDE - 6 - longest))
    stop = rng.uniform(min(SIDE - 6.0, start + longest), SIDE - 5)
    degrees, letters = _turn(rng), []
    for row, (left, right) in enumerate(lines):
        middle = (first + row + 0.5) * TOKEN + shift
        for text, x in ((left, start), (right, stop - font.getlength(right))):
            draw.text((x, middle), text, ink, font, anchor="lm")
            for index, letter in enumerate(text):
                if letter != " ":
                    centre = x + (font.getlength(text[:index]) + font.getlength(text[: index + 1])) / 2
                    letters.append((letter, *_turned(centre, middle, degrees)))
    if degrees:
        image = image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=paper)
    return Picture(_worn(rng, image)[None], tuple(letters))


def _outline(shape: Shape) -> list[tuple[float, float]]:
    corners = {"circle": 4, "square": 4, "triangle": 3, "diamond": 4, "star": 10}[shape.kind]
    begin = math.pi / 4 if shape.kind == "square" else -math.pi / 2
    points = []
    for index in range(corners):
        reach = shape.radius * (0.42 if shape.kind == "star" and index % 2 else 1)
        angle = begin + 2 * math.pi * index / corners
        points.append((shape.x + reach * math.cos(angle), shape.y + reach * math.sin(angle)))
    return points


def _draw_shape(draw: ImageDraw.ImageDraw, shape: Shape) -> None:
    colour, r = COLOURS[shape.colour], shape.radius
    if shape.kind == "circle":
        draw.ellipse((shape.x - r, shape.y - r, shape.x + r, shape.y + r), colour)
    else:
        draw.polygon(_outline(shape), colour)


def scene(rng: random.Random, wanted: list[tuple[str, str]], on_edges: float = 0) -> Picture:
    """Shapes of the wanted (colour, kind) pairs at places that do not touch; at most one in a token.

    ``on_edges`` is the share of shapes whose middles are brought close to the edge of two tokens, for training.
    """
    paper = tuple(rng.randrange(222, 256) for _ in range(3))
    image = Image.new("RGB", (SIDE, SIDE), paper)
    draw, shapes = ImageDraw.Draw(image), []
    for colour, kind in wanted:
        while True:
            radius = rng.uniform(12, 21)
            x, y = (rng.uniform(radius + 2, SIDE - radius - 2) for _ in range(2))
            if on_edges and rng.random() < on_edges:
                edge = TOKEN * rng.randrange(1, SIDE // TOKEN) + rng.uniform(-2, 2)
                x, y = (edge, y) if rng.random() < 0.5 else (x, edge)
            if all(math.hypot(x - s.x, y - s.y) > max(46, radius + s.radius + 3) for s in shapes):
                break
        shapes.append(Shape(kind, colour, x, y, radius))
        _draw_shape(draw, shapes[-1])
    return Picture(_worn(rng, image)[None], shapes=tuple(shapes))


def chart(rng: random.Random, labels: list[str], heights: list[float], fresh: bool) -> Picture:
    """A bar chart: labels below bars, one in every second or third token, heights from 0 to 1."""
    paper, ink = _paper(rng, 0)
    image = Image.new("RGB", (SIDE, SIDE), paper)
    draw, letters, bars = ImageDraw.Draw(image), [], []
    font = _font(rng.choice(FRESH if fresh else SEEN), rng.randrange(15, 19))
    step = SIDE / len(labels)
    base = SIDE - TOKEN - rng.uniform(0, 4)
    colours = [COLOURS[rng.choice(sorted(COLOURS))]] * len(labels)
    if rng.random() < 0.5:
        colours = [COLOURS[rng.choice(sorted(COLOURS))] for _ in labels]
    for index, (label, height) in enumerate(zip(labels, heights, strict=True)):
        middle, half = (index + 0.5) * step, step * 0.32
        draw.rectangle((middle - half, base - height * 200, middle + half, base), colours[index])
        x = middle - font.getlength(label) / 2
        draw.text((x, SIDE - TOKEN / 2), label, ink, font, anchor="lm")
        for place, letter in enumerate(label):
            centre = x + (font.getlength(label[:place]) + font.getlength(label[: place + 1])) / 2
            letters.append((letter, centre, SIDE - TOKEN / 2))
        bars.append(((letters[-len(label)][1], letters[-1][1]), height))
    draw.line((2, base, SIDE - 2, base), ink, 2)
    return Picture(_worn(rng, image)[None], tuple(letters), bars=tuple(bars))


MOVES = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


def video(
    rng: random.Random, direction: str, kind: str, colour: str, frames: int = 4, side: int = 64, every: int = 1
) -> Picture:
    """A shape that moves evenly in one direction, as seen in every so many frames."""
    radius, speed = rng.uniform(7, 11), rng.uniform(6, 9) / every
    way = speed * (frames - 1)
    dx, dy = MOVES[direction]
    low, high = radius + 1, side - radius - 1
    across, begin = rng.uniform(low, high), rng.uniform(low, max(low, high - way))
    paper = tuple(rng.randrange(215, 256) for _ in range(3))
    pictures = []
    for frame in range(frames):
        along = begin + speed * frame if dx + dy > 0 else side - begin - speed * frame
        image = Image.new("RGB", (side, side), paper)
        place = (along, across) if dx else (across, along)
        _draw_shape(ImageDraw.Draw(image), Shape(kind, colour, *place, radius))
        pictures.append(_worn(rng, image))
    pause = rng.uniform(0.35, 0.7)
    times = tuple((2 * pair + 0.5) * pause for pair in range(frames // 2))
    return Picture(np.stack(pictures), seconds=times)
