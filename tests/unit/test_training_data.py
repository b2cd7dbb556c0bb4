"""The generator behind the embedded model: its answers are right, its split is clean, its text is the family's."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

import loqal
from loqal.chat import choice, template
from loqal.chat.segments import joined
from loqal.types import Message

RECIPE = Path(__file__).parents[2] / "training"


@pytest.fixture(scope="module", autouse=True)
def recipe_on_path() -> Iterator[None]:
    """The recipe is a folder of scripts, not a package."""
    sys.path.insert(0, str(RECIPE))
    yield
    sys.path.remove(str(RECIPE))


def draws(task: str, count: int = 200, fresh: bool = False, thinking: bool | None = None) -> list:
    import tasks

    rng = random.Random(11)
    return [tasks.draw(rng, fresh, task, thinking) for _ in range(count)]


def test_same_seed_same_samples() -> None:
    assert draws("receipt") == draws("receipt")


@pytest.mark.parametrize("task", ["intent", "receipt", "arithmetic", "lookup"])
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


@pytest.mark.parametrize("thinking", [False, True])
def test_prompts_are_the_familys(thinking: bool) -> None:
    import tasks

    rng = random.Random(3)
    for _ in range(100):
        sample = tasks.training_sample(rng)
        if (sample.reasoning is not None) != thinking:
            continue
        messages = [Message("system", sample.system)] if sample.system else []
        for user, assistant in sample.turns:
            messages += [Message("user", user), Message("assistant", assistant)]
        messages.append(Message("user", sample.user))
        assert joined(template.render(messages, think=thinking)) == sample.prompt()


def test_template_file_is_the_familys_and_does_not_think_unasked() -> None:
    from loqal.chat.file_template import SandboxedTemplate

    source = (RECIPE / "chat_template.jinja").read_text()
    traits = choice.measure(SandboxedTemplate(source, ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]))
    assert (traits.native, traits.thinks) == (True, False)


def test_vocabulary_splits_digits_and_holds_every_control_token() -> None:
    import tasks
    import tokenizer as vocabulary

    trained = vocabulary.train(num_samples=50)
    assert trained.encode("a 1234").tokens[-4:] == list("1234")
    control = [trained.token_to_id(text) for text in vocabulary.CONTROL]
    assert len(control) == 33 and control == list(range(control[0], control[0] + 33))
    rng = random.Random(9)
    for _ in range(50):
        sample = tasks.training_sample(rng)
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
    assert info.vocab_size == 1792 and info.file_bytes < 12_000_000
