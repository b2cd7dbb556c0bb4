"""The values of the model cards."""

from __future__ import annotations

from dataclasses import fields

import pytest

from loqal.chat.defaults import resolve, thinks_by_default
from loqal.types.sampling import SamplingParams

SMALL, LARGE = ["0.8B", "2B"], ["4B", "9B", "27B", "35B-A3B", "122B-A10B", "397B-A17B", None]


@pytest.mark.parametrize(
    ("sizes", "thinking", "media", "temperature", "top_p", "presence"),
    [
        (SMALL, False, False, 1.0, 1.0, 2.0),
        (SMALL, False, True, 0.7, 0.8, 1.5),
        (SMALL, True, False, 1.0, 0.95, 1.5),
        (SMALL, True, True, 0.6, 0.95, 0.0),
        (LARGE, False, False, 0.7, 0.8, 1.5),
        (LARGE, False, True, 0.7, 0.8, 1.5),
        (LARGE, True, False, 1.0, 0.95, 1.5),
        (LARGE, True, True, 1.0, 0.95, 1.5),
    ],
)
def test_cards(
    sizes: list[str | None], thinking: bool, media: bool, temperature: float, top_p: float, presence: float
) -> None:
    for size in sizes:
        found = resolve(SamplingParams(), size=size, thinking=thinking, media=media)
        assert found == SamplingParams(
            temperature=temperature,
            top_p=top_p,
            presence_penalty=presence,
            top_k=20,
            min_p=0.0,
            frequency_penalty=0.0,
            repetition_penalty=1.0,
        )


def test_nothing_stays_open_but_lengths_seed_biases_and_logprobs() -> None:
    found = resolve(SamplingParams(), size="9B", thinking=True, media=False)
    still_open = {f.name for f in fields(found) if getattr(found, f.name) is None}
    assert still_open == {"max_tokens", "min_tokens", "seed", "logit_bias", "logprobs"}


def test_the_caller_comes_first_then_the_file() -> None:
    said = SamplingParams(temperature=0.0, top_k=0, seed=3, stop=("x",))
    file_values = {"temperature": 0.5, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.1, "eos_token_id": [1]}
    found = resolve(said, size="4B", thinking=False, media=False, file_values=file_values)
    assert (found.temperature, found.top_k, found.top_p, found.repetition_penalty) == (0.0, 0, 0.9, 1.1)
    assert (found.seed, found.stop, found.presence_penalty) == (3, ("x",), 1.5)


def test_names_of_gguf_keys() -> None:
    values = {"temp": 0.6000000238418579, "top_k": 10, "penalty_repeat": 1.05, "min_p": 0.05}
    found = resolve(SamplingParams(), size=None, thinking=True, media=False, file_values=values)
    assert (found.temperature, found.top_k, found.repetition_penalty, found.min_p) == (values["temp"], 10, 1.05, 0.05)


def test_the_familys_own_file_does_not_undo_the_cards() -> None:
    stock = {"do_sample": True, "temperature": 1.0, "top_k": 20, "top_p": 0.95}
    for thinking in (True, False):
        alone = resolve(SamplingParams(), size="27B", thinking=thinking, media=False)
        assert resolve(SamplingParams(), size="27B", thinking=thinking, media=False, file_values=stock) == alone


@pytest.mark.parametrize(("size", "thinks"), [*((s, False) for s in SMALL), *((s, True) for s in LARGE)])
def test_thinking(size: str | None, thinks: bool) -> None:
    assert thinks_by_default(size) is thinks
