"""Write held-out samples of every task to a file for ``loqal eval``: fresh templates, fonts and seeds.

python training/make_tasks.py --count 100 --seed 2024 tasks.jsonl
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from drawing import Picture
from mixture import TASKS, draw, lookup_samples
from tasks import FULL, Sample
from tasks_text import code

MODES = {
    "intent": (False, True),
    "arithmetic": (False, True),
    "lookup": (False, True),
    "count": (True, False),
    "box": (True, False),
}
JUDGES = {"receipt": "receipt", "receipt image": "receipt", "box": "box"}


def url_of(picture: Picture) -> str | list[str]:
    """A data URL of a picture, or one for every frame of a video."""
    urls = []
    for frame in picture.frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "PNG")
        urls.append("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode())
    return urls if picture.is_video else urls[0]


def content_of(text: str, pictures: tuple[Picture, ...]) -> str | list[dict[str, Any]]:
    """The content of a user's message."""
    if not pictures:
        return text
    parts: list[dict[str, Any]] = []
    for picture in pictures:
        part: dict[str, Any] = {"type": "video" if picture.is_video else "image", "source": url_of(picture)}
        if picture.is_video:
            part["fps"] = round(1 / (picture.seconds[0] * 2), 3)
        parts.append(part)
    return [*parts, {"type": "text", "text": text}]


def record(name: str, sample: Sample) -> dict[str, Any]:
    """A line of the file."""
    if sample.task == "tool":
        (question, call), result = sample.turns[0], sample.user.split("\n")[1]
        function, key = call.split("<function=")[1].split(">")[0], call.split("<parameter=")[1].split(">")[0]
        value = call.split(f"<parameter={key}>\n")[1].split("\n</parameter>")[0]
        return {
            "task": name,
            "messages": [{"role": "user", "content": question}],
            "expected": sample.answer,
            "tools": list(sample.tools),
            "call": {"name": function, "arguments": {key: value}},
            "result": result,
        }
    messages = [{"role": "system", "content": sample.system}] if sample.system else []
    pictures = sample.pictures
    for user, assistant in (*sample.turns, (sample.user, None)):
        messages.append({"role": "user", "content": content_of(user, pictures)})
        pictures = ()
        if assistant is not None:
            messages.append({"role": "assistant", "content": assistant})
    line = {"task": name, "messages": messages, "expected": sample.answer, "think": sample.reasoning is not None}
    if sample.task in JUDGES:
        line["judge"] = JUDGES[sample.task]
    if not sample.pictures:
        line["transcript"] = sample.prompt() + sample.completion()
    return line


def records(count: int, seed: int, lists: tuple[int, ...]) -> list[dict[str, Any]]:
    """All lines: every task, thinking where it matters, and look-ups in long lists."""
    out = []
    for task in TASKS:
        for thinking in MODES.get(task, (False,)):
            rng = random.Random(f"{seed}/{task}/{thinking}")
            name = f"{task}, thinking" if thinking else task
            if task == "code":
                out += [record(name, replace(code(rng, True, FULL, "copy"), reasoning=None)) for _ in range(count)]
                name = "code, edit"
            drawn = [draw(rng, True, task, thinking) for _ in range(count)]
            out += [record(name, s) for s in drawn if s.task != "code copy"]
    for entries in lists:
        out += [record(f"lookup, {entries} entries", s) for s in lookup_samples(entries, max(20, count // 2), seed)]
    return out


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=100, help="samples of a task")
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument(
        "--lists",
        default="24,100,450",
        help="entries of long lists for look-ups; 450 fill up to 4096 tokens, 900 and 1800 what YaRN reaches",
    )
    args = parser.parse_args()
    lists = tuple(int(word) for word in args.lists.split(","))
    args.out.write_text("".join(json.dumps(line) + "\n" for line in records(args.count, args.seed, lists)))


if __name__ == "__main__":
    main()
