"""The generator behind the embedded model: its answers are right, its split is clean, its text is the family's."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import loqal
from loqal.chat.template import native, select
from loqal.chat.template.segments import joined
from loqal.types.messages import MediaPart, Message, TextPart, ToolCall

RECIPE = Path(__file__).parents[2] / "training"


@pytest.fixture(scope="module", autouse=True)
def recipe_on_path() -> Iterator[None]:
    """The recipe is a folder of scripts, not a package."""
    sys.path.insert(0, str(RECIPE))
    yield
    sys.path.remove(str(RECIPE))


def draws(task: str, count: int = 200, fresh: bool = False, thinking: bool | None = None) -> list:
    import mixture

    rng = random.Random(11)
    return [mixture.draw(rng, fresh, task, thinking) for _ in range(count)]


def test_same_seed_same_samples() -> None:
    assert draws("receipt") == draws("receipt")


@pytest.mark.parametrize("task", ["intent", "receipt", "arithmetic", "lookup", "triage", "tool", "schema", "code"])
def test_held_out_templates_never_appear_in_training(task: str) -> None:
    seen = {sample.template for sample in draws(task, 2000)}
    assert seen.isdisjoint(sample.template for sample in draws(task, 2000, fresh=True))


def test_held_out_operands_never_appear_in_training() -> None:
    def operands(fresh: bool) -> set:
        samples = draws("arithmetic", 3000, fresh, thinking=True)
        return {found[0] for sample in samples if (found := re.match(r"\d+[+-]\d+", sample.answer))}

    assert operands(True)
    assert operands(False).isdisjoint(operands(True))


def test_receipts_add_up() -> None:
    for sample in draws("receipt"):
        found = json.loads(sample.answer, parse_float=Decimal)
        assert found["total"] == sum(line["quantity"] * line["price"] for line in found["lines"])
        for line in found["lines"]:
            assert line["item"] in sample.user and f"{line['price']}" in sample.user


def test_sums_are_right_and_explained() -> None:
    apply = {"+": int.__add__, "-": int.__sub__, "x": int.__mul__}
    for sample in draws("arithmetic", thinking=True):
        steps = re.findall(r"(-?\d+)([-+x])(\d+)=(-?\d+)", sample.reasoning + sample.answer)
        assert len(steps) >= 2
        assert all(apply[sign](int(a), int(b)) == int(c) for a, sign, b, c in steps)
        a, b, _ = re.findall(r"\d+", sample.answer)
        assert sorted(re.findall(r"\d+", sample.user)) == sorted([a, b])


def test_lookups_are_answered_with_an_entry_of_the_list() -> None:
    import tasks

    rng = random.Random(5)
    for _ in range(200):
        sample = tasks.lookup(rng, False, questions=3)
        given = [*sample.turns, (sample.user, sample.answer)]
        assert len(given) == 3
        assert all(answer in given[0][0] for _, answer in given)


def spoken(sample) -> list[Message]:
    """The conversation of a sample, as a caller would write it."""
    if sample.task == "tool":
        messages = []
        for user, assistant in (*sample.turns, (sample.user, "")):
            asked = "tool" if user.startswith("<tool_response>") else "user"
            messages.append(Message(asked, user.split("\n")[1] if asked == "tool" else user))
            for function, key, value in re.findall(r"<function=(\w+)>\n<parameter=(\w+)>\n(.*)\n</p", assistant):
                messages.append(Message("assistant", "", tool_calls=(ToolCall(function, {key: value}),)))
            if asked == "tool" and assistant:
                messages.append(Message("assistant", assistant))
        return messages
    messages = [Message("system", sample.system)] if sample.system else []
    media = [MediaPart("video" if picture.is_video else "image") for picture in sample.pictures]
    for user, assistant in sample.turns:
        messages += [Message("user", (*media, TextPart(user)) if media else user), Message("assistant", assistant)]
        media = []
    return [*messages, Message("user", (*media, TextPart(sample.user)) if media else sample.user)]


def text_level():
    import mixture
    import tasks

    drawn = mixture.VISION_TASKS
    return tasks.Level({task: share for task, share in mixture.SHARES.items() if task not in drawn}, 36, 5, 50)


@pytest.mark.parametrize("thinking", [False, True])
def test_prompts_are_the_familys(thinking: bool) -> None:
    import mixture

    rng, level = random.Random(3), text_level()
    for _ in range(100):
        sample = mixture.training_sample(rng, level)
        if (sample.reasoning is not None) == thinking:
            rendered = native.render(spoken(sample), think=thinking, tools=sample.tools or None)
            assert joined(rendered) == sample.prompt()


def test_prompts_with_pictures_are_the_familys() -> None:
    import mixture

    rng = random.Random(4)
    for task in ("receipt image", "count", "chart"):
        try:
            sample = mixture.draw(rng, False, task)
        except SystemExit as missing:
            pytest.skip(str(missing))
        rendered = joined(native.render(spoken(sample), think=sample.reasoning is not None))
        assert re.sub(r"(<\|image_pad\|>)+", r"\1", sample.prompt()) == rendered
        assert sample.prompt().count("<|image_pad|>") == 64


def test_counts_and_boxes_are_of_what_was_drawn() -> None:
    import tasks_vision

    for task in ("count", "box", "chart", "motion"):
        try:
            samples = draws(task, 20)
        except SystemExit as missing:
            pytest.skip(str(missing))
        for sample in samples:
            (picture,) = sample.pictures
            assert picture.frames.dtype == np.uint8
            if task == "count":
                name, count = sample.answer.split(": ")
                assert name in sample.user
                if sample.reasoning:
                    assert len(re.findall(r"\b[a-h][1-8]\b", sample.reasoning)) == 64
                    found = re.findall(r"([a-h]\d): ([a-z ]+) (\d)", sample.reasoning)
                    drawn = {tasks_vision.place(s): (s.colour, s.kind) for s in picture.shapes}
                    assert {at for at, *_ in found} == set(drawn)
                    assert int(found[-1][2] if found else 0) == int(count)
                    for at, said, _ in found:
                        compared = re.findall(r"(\w+) (\w+) (yes|no)", said)
                        assert all((left == right) == (verdict == "yes") for left, right, verdict in compared)
                        assert {left for left, *_ in compared} <= set(drawn[at])
            if task == "box":
                found = json.loads(sample.answer)
                assert sum(f"{s.colour} {s.kind}" == found["label"] for s in picture.shapes) == 1


def test_questions_about_a_scene_agree_with_it() -> None:
    import tasks
    import tasks_vision

    rng = random.Random(6)
    for _ in range(30):
        sample = tasks_vision.several(rng, tasks.FULL)
        if not sample.pictures:
            continue
        (picture,) = sample.pictures
        pairs = [f"{s.colour} {s.kind}" for s in picture.shapes]
        places = [tasks_vision.place(s) for s in picture.shapes]
        for at, said in re.findall(r"([a-h]\d): ([\w ]+)", " ".join(answer for _, answer in sample.turns)):
            assert (pairs[places.index(at)] if at in places else "nothing") == said


def test_the_middle_of_a_shape_is_where_it_is_drawn() -> None:
    import drawing

    rng = random.Random(4)
    for kind in drawing.KINDS:
        shape = drawing.Shape(kind, "black", rng.uniform(40, 200), rng.uniform(40, 200), rng.uniform(12, 21))
        canvas = Image.new("RGB", (drawing.SIDE, drawing.SIDE), "white")
        drawing._draw_shape(ImageDraw.Draw(canvas), shape)
        columns = np.nonzero((np.asarray(canvas)[..., 0] < 100).any(0))[0]
        assert shape.middle()[0] == pytest.approx((columns[0] + columns[-1] + 1) / 2)


def test_renames_are_trained_in_no_wording_that_is_held_out() -> None:
    import tasks_text

    held = tasks_text.code_frames("rename", True)
    rng = random.Random(5)
    for _ in range(300):
        wording = tasks_text.rename_frame(rng).replace("{code}", "").strip("\n.:")
        assert "{old}" in wording and "{new}" in wording
        assert not any(wording in text for text in held)


def test_shapes_in_words_are_counted() -> None:
    import tasks_vision

    for seed in range(20):
        sample = tasks_vision.tallied(random.Random(seed))
        name, count = sample.answer.split(": ")
        colour, kind = f" {name} ".removesuffix("s ").rsplit(" ", 1)
        pairs = re.findall(r"[a-h]\d (\w+ \w+)", sample.user)
        assert int(count) == sum(colour.strip() in pair and kind.removeprefix("shape") in pair for pair in pairs)
        assert (sample.reasoning or "").endswith(f" {count}")


def test_template_file_is_the_familys_and_does_not_think_unasked() -> None:
    from loqal.chat.template.from_file import SandboxedTemplate

    source = (RECIPE / "chat_template.jinja").read_text()
    traits = select.measure(SandboxedTemplate(source, ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]))
    assert (traits.native, traits.thinks) == (True, False)


def test_vocabulary_splits_digits_and_holds_every_control_token() -> None:
    import mixture
    import tokenizer as vocabulary

    trained = vocabulary.train(num_samples=50)
    assert trained.encode("a 1234").tokens[-4:] == list("1234")
    # A line break is by itself, so that the last line of a copy ends as the others do.
    assert all(token.strip("\u010a") in ("", token) for token in trained.get_vocab())
    control = [trained.token_to_id(text) for text in vocabulary.CONTROL]
    assert len(control) == 33 and control == list(range(control[0], control[0] + 33))
    rng, level = random.Random(9), text_level()
    for _ in range(50):
        sample = mixture.training_sample(rng, level)
        ids, written = vocabulary.encode(trained, sample)
        assert trained.decode(ids, skip_special_tokens=False) == sample.prompt() + sample.completion()
        assert len(ids) == len(written) and written[-1] and not written[0]
        assert sum(ids[i] == trained.token_to_id("<|im_end|>") for i, own in enumerate(written) if own) == 1 + len(
            sample.turns
        )


def test_shipped_file_is_the_recipes() -> None:
    info = loqal.inspect()
    assert info.name == "loqal demonstration model"
    assert (info.has_draft_head, info.template, info.thinks_by_default) == (True, "the family's", False)
    assert info.vocab_size == 2304 and info.file_bytes < 12_000_000
