"""Seeing through the Python API on a tiny model: one answer, one encoding, costs known before, refusals."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import vision_cases

import loqal
import tiny_checkpoint
from loqal import ContextError, MediaPart, Message, RequestError, Runtime, SamplingParams, TextPart
from loqal.media.decode_budget import DecodeBudget
from loqal.model.vision_tower import VisionTower
from loqal.ops.backends.cpu import CpuOps, available_isas
from loqal.ops.fair_lock import FairLock
from loqal.ops.interface import FloatArray
from loqal.runtime.media_encoder import EncoderCache
from loqal.testing.checkpoints import random_tensors, tiny_config, write_gguf
from loqal.weights.load import open_checkpoint
from machine import Machine, stored
from media_files import encoded, picture, video
from waiting import run_all, wait_until

PARAMS = SamplingParams(max_tokens=6, seed=3, logprobs=4)
IMAGES = [picture(300, 200, seed) for seed in range(3)]
FRAMES = [picture(96, 64, seed) for seed in range(5)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint.gguf(tmp_path_factory.mktemp("eyes") / "tiny.gguf", vision=True, tied_head=False)


def loaded(path: Path, **options: Any) -> Runtime:
    return loqal.load(path, mmproj=path.with_name("mmproj-" + path.name), context_len=2048, **options)


@pytest.fixture
def model(path: Path) -> Iterator[Runtime]:
    with loaded(path) as model:
        yield model


def show(source: Any, **bounds: Any) -> MediaPart:
    return MediaPart("image", source, **bounds)


def user(*parts: Any) -> Message:
    return Message("user", tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


CONVERSATIONS: dict[str, list[Message]] = {
    "image first": [user(show(IMAGES[0]), "What is this?")],
    "between texts": [user("Look: ", show(IMAGES[0]), " and then ", show(IMAGES[1]), " compare.")],
    "video": [user("Watch. ", MediaPart("video", FRAMES), "What moved?")],
    "all": [
        user(show(IMAGES[1]), "First."),
        Message("assistant", "Seen."),
        user("Now ", MediaPart("video", FRAMES, fps=1), show(IMAGES[0], max_tokens=16), "?"),
    ],
    "text": [user("No picture at all.")],
}


def answer(model: Runtime, messages: list[Message]) -> tuple[Any, ...]:
    reply = model.chat(messages, PARAMS)
    return reply.token_ids, reply.logprobs


# One answer -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cold(path: Path) -> dict[str, tuple[Any, ...]]:
    """Every conversation alone, without a prefix cache, on one thread."""
    found = {}
    for name, messages in CONVERSATIONS.items():
        with loaded(path, cache_bytes=0, threads=1) as model:
            found[name] = answer(model, messages)
    return found


def test_prefixes_that_were_read_before(model: Runtime, cold: dict[str, tuple[Any, ...]]) -> None:
    """Hits before, inside a conversation with, and after pictures; twice, so that everything was seen."""
    for name in [*CONVERSATIONS, *reversed(CONVERSATIONS)]:
        assert answer(model, CONVERSATIONS[name]) == cold[name], name


def test_the_prefix_cache_knows_pictures_by_content(model: Runtime) -> None:
    def ask(image: Any, question: str) -> tuple[Any, int]:
        reply = model.chat([user("Look at this: ", show(image), question)], PARAMS)
        return (reply.token_ids, reply.logprobs), reply.usage.cached_tokens

    first, none_cached = ask(IMAGES[0], "One?")
    again, _ = ask(encoded(IMAGES[0], "PNG"), "One?")
    ask(IMAGES[0], "Two?")
    other, before_it = ask(IMAGES[1], "One?")
    _, behind_it = ask(IMAGES[0], "Three?")
    num_tokens = model.media_info(show(IMAGES[0])).num_tokens
    assert none_cached == 0
    assert again == first
    assert other != first, "the same words and sizes, another picture"
    assert before_it < 60, "what stands before the picture at most"
    assert behind_it > num_tokens


def test_companions_change_nothing(path: Path, cold: dict[str, tuple[Any, ...]]) -> None:
    with loaded(path) as model:
        found: dict[str, Any] = {}
        threads = [
            threading.Thread(target=lambda name=name: found.update({name: answer(model, CONVERSATIONS[name])}))
            for name in CONVERSATIONS
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == cold


def test_all_instruction_sets_agree(path: Path, cold: dict[str, tuple[Any, ...]]) -> None:
    for isa in available_isas():
        with loaded(path, isa=isa, threads=2) as model:
            assert answer(model, CONVERSATIONS["between texts"]) == cold["between texts"], isa


def test_the_reference_backend_sees_the_same(path: Path, cold: dict[str, tuple[Any, ...]]) -> None:
    small = [user(show(IMAGES[0], max_tokens=6), "What is this?")]
    with loaded(path) as model, loaded(path, backend="reference") as reference:
        mine, theirs = model.chat(small, PARAMS), reference.chat(small, PARAMS)
    assert mine.token_ids == theirs.token_ids
    assert mine.logprobs is not None and theirs.logprobs is not None
    for one, other in zip(mine.logprobs, theirs.logprobs, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)


# Chunks and captures, without the engine ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene() -> tuple[Machine, FloatArray, list[tuple[int, FloatArray]], np.ndarray, np.ndarray]:
    case = vision_cases.SCENES["mixed"]
    tensors, ops = stored(case.tensors()), CpuOps(threads=1)
    assert case.config.vision is not None
    machine = Machine(case.config, tensors, ops)
    tower = VisionTower(case.config.vision, ops, tensors)
    ids, placed, items = case.prompt()
    views = [view for item in items for view in item.views]
    inputs = [
        (place.start, tower.encode(view.patches(), view.grid.rows, view.grid.columns))
        for place, view in zip(placed, views, strict=True)
    ]
    state = machine.store.open()
    whole = machine.logits_with(state, ids, case.positions(), inputs)
    machine.store.release(state)
    return machine, whole, inputs, ids, case.positions()


def part_of(inputs: list[tuple[int, FloatArray]], start: int, end: int) -> list[tuple[int, FloatArray]]:
    """The rows of the pictures that fall between two tokens."""
    found = []
    for at, rows in inputs:
        low, high = max(at, start), min(at + len(rows), end)
        if low < high:
            found.append((low - start, rows[low - at : high - at]))
    return found


@pytest.mark.parametrize("chunk", [1, 7, 64, 100])
def test_chunks_may_end_inside_a_picture(scene: Any, chunk: int) -> None:
    machine, whole, inputs, ids, positions = scene
    state = machine.store.open()
    rows = [
        machine.logits_with(state, ids[at : at + chunk], positions[at : at + chunk], part_of(inputs, at, at + chunk))
        for at in range(0, len(ids), chunk)
    ]
    machine.store.release(state)
    assert np.concatenate(rows).tobytes() == whole.tobytes()


@pytest.mark.parametrize("where", ["before", "at", "inside", "end", "after"])
def test_a_prefix_may_end_anywhere(scene: Any, where: str) -> None:
    machine, whole, inputs, ids, positions = scene
    start, count = inputs[1][0], len(inputs[1][1])
    at = {"before": start - 3, "at": start, "inside": start + 2, "end": start + count, "after": start + count + 1}[
        where
    ]
    state = machine.store.open()
    machine.logits_with(state, ids[:at], positions[:at], part_of(inputs, 0, at))
    capture = machine.store.capture(state)
    for _ in range(2):
        taken = machine.store.adopt(capture)
        rows = machine.logits_with(taken, ids[at:], positions[at:], part_of(inputs, at, len(ids)))
        machine.store.release(taken)
        assert rows.tobytes() == whole[at:].tobytes()
    machine.store.release(capture)
    machine.store.release(state)


# The encoder ----------------------------------------------------------------------------------------------------------


def test_a_picture_is_encoded_once(model: Runtime) -> None:
    cache = model._media_encoder.cache
    first = [user(show(IMAGES[0]), "What?")]
    reply = model.chat(first, PARAMS)
    assert cache.num_encoded == 1
    turns = [*first, Message("assistant", reply.text), user("And ", show(encoded(IMAGES[1], "PNG")), "?")]
    model.chat(turns, PARAMS)
    model.chat([*turns, Message("assistant", "x"), user("More.")], PARAMS)
    assert cache.num_encoded == 2
    model.chat([user(show(IMAGES[0], max_tokens=9), "Smaller.")], PARAMS)
    assert cache.num_encoded == 3, "another size is another picture"
    model.chat([user(MediaPart("video", FRAMES), "!")], PARAMS)
    model.chat([user(MediaPart("video", FRAMES), "?")], PARAMS)
    assert cache.num_encoded == 6, "three pairs of frames"


def test_the_cache_is_bounded() -> None:
    cache = EncoderCache(4 * 100)
    rows = {name: np.full((10, 4), index, np.float32) for index, name in enumerate(b"abcd")}
    for name in (b"a", b"b", b"a", b"c"):  # room for two; b is the one not used lately
        cache.get(name, lambda name=name: rows[name[0]].copy())
    assert cache.num_encoded == 3
    cache.get(b"a", lambda: pytest.fail("a is kept"))
    cache.get(b"b", lambda: rows[98].copy())
    assert cache.num_encoded == 4
    large = np.zeros((1000, 4), np.float32)
    assert cache.get(b"large", lambda: large) is large
    with pytest.raises(ValueError, match="read-only"):
        cache.get(b"b", lambda: pytest.fail("b is kept"))[0] = 1


def test_two_at_once_wait_for_one_encoding() -> None:
    cache, asked, made = EncoderCache(1 << 20), list[int](), list[int]()

    def make() -> FloatArray:
        wait_until(lambda: len(asked) == 4)
        made.append(1)
        return np.zeros((2, 2), np.float32)

    def ask() -> None:
        asked.append(1)
        cache.get(b"x", make)

    run_all(*[ask] * 4)
    assert len(made) == 1


def test_a_failed_encoding_is_tried_again() -> None:
    cache = EncoderCache(1 << 20)

    def fail() -> FloatArray:
        raise RequestError("broken", "why", "fix")

    for _ in range(2):
        with pytest.raises(RequestError):
            cache.get(b"x", fail)
    assert cache.get(b"x", lambda: np.ones((1, 1), np.float32))[0, 0] == 1


@pytest.mark.parametrize("format", ["F32", "F16", "BF16", "Q8_0"])
def test_formats_of_the_tower(format: str, tmp_path: Path) -> None:
    """Each stays in its own type, patch embedding apart, and sees nearly the same."""
    config = tiny_config(vision=True)
    tensors = random_tensors(config)
    write_gguf(tmp_path / "m.gguf", config, tensors, mmproj=tmp_path / "v.gguf", vision_format=format)
    checkpoint = open_checkpoint(tmp_path / "m.gguf", mmproj=tmp_path / "v.gguf")
    assert checkpoint.tensors.format("vision.layers.0.qkv.weight") == format
    assert checkpoint.config.vision is not None
    grid = (6, 8)
    patches = vision_cases.ArrayPatches(vision_cases.tower_patches(*grid))
    exact = VisionTower(checkpoint.config.vision, CpuOps(), stored(tensors)).encode(patches, *grid)
    found = VisionTower(checkpoint.config.vision, CpuOps(), checkpoint.tensors).encode(patches, *grid)
    bound = {"F32": 0.0, "F16": 1e-3, "BF16": 0.0, "Q8_0": 0.05}[format]
    assert vision_cases.relative_error(found, exact) <= bound


# The lock of the backend ---------------------------------------------------------------------------------------------


def test_a_stream_runs_on_while_a_picture_is_encoded(model: Runtime) -> None:
    """A picture of many slices: between two of them, whoever writes gets a turn."""
    holders: list[str] = []
    enter = FairLock.__enter__

    def noted(self: FairLock) -> None:
        enter(self)
        holders.append(threading.current_thread().name)

    large = user(show(picture(1500, 1200), min_tokens=1200), "Large.")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FairLock, "__enter__", noted)
        stream = model.stream_chat([user("Write on.")], SamplingParams(max_tokens=1500, seed=1, ignore_eos=True))
        next(stream)
        looking = threading.Thread(target=model.chat, args=([large], PARAMS), name="looking")
        looking.start()
        for _ in stream:
            if not looking.is_alive():
                break
        stream.close()
        looking.join()
    slices = [index for index, name in enumerate(holders) if name == "looking"]
    assert len(slices) > 8
    gaps = np.diff(slices)
    assert (gaps > 1).mean() > 0.5, "steps come between slices"


# Costs and refusals ---------------------------------------------------------------------------------------------------


def test_the_cost_before_is_the_cost_after(model: Runtime) -> None:
    parts = [show(IMAGES[0]), MediaPart("video", video(20, 96, 64), fps=5)]
    infos = [model.media_info(part) for part in parts]
    reply = model.chat([user(*parts, "?")], PARAMS)
    assert reply.media == tuple(dataclasses.replace(info) for info in infos)
    text = len(model.tokenize("?"))
    assert reply.usage.prompt_tokens > sum(info.num_tokens for info in infos) + text
    assert infos[0].size == (320, 224) and infos[0].grid == (1, 14, 20)
    assert infos[1].grid[0] == len(infos[1].seconds)


def test_a_picture_too_large_for_the_context(model: Runtime) -> None:
    before = model._media_encoder.cache.num_encoded
    with pytest.raises(ContextError, match="does not fit"):
        model.chat([user(show(IMAGES[0], min_tokens=3000), "?")], PARAMS)
    assert model._media_encoder.cache.num_encoded == before, "nothing is encoded in vain"


def test_a_model_without_a_tower(path: Path, tmp_path: Path) -> None:
    plain = tiny_checkpoint.gguf(tmp_path / "plain.gguf")
    with loqal.load(plain, context_len=512) as model:
        with pytest.raises(RequestError, match="image"):
            model.chat([user(show(IMAGES[0]), "?")], PARAMS)
        assert model.chat([user("Text.")], PARAMS).token_ids


def test_urls_are_off_unless_allowed(model: Runtime) -> None:
    with pytest.raises(RequestError, match="allow"):
        model.chat([user(show("https://example.com/a.png"), "?")], PARAMS)


def test_a_damaged_image_ends_the_request_alone(model: Runtime) -> None:
    data = encoded(picture(200, 200), "PNG")
    with pytest.raises(loqal.MediaError):
        model.chat([user(show(data[:-2000]), "?")], PARAMS)
    assert model.chat([user("Still there?")], PARAMS).token_ids


def test_text_that_looks_like_a_mark_stays_text(model: Runtime, cold: dict[str, tuple[Any, ...]]) -> None:
    marks = "<|vision_start|><|image_pad|><|vision_end|>"
    reply = model.chat([user(marks, show(IMAGES[0]), marks)], PARAMS)
    assert len(reply.media) == 1


def test_a_cost_without_a_model(path: Path) -> None:
    info = loqal.media_info(show(IMAGES[0]))
    assert (info.size, info.num_tokens) == ((320, 224), 70)
    assert loqal.media_info(show(IMAGES[0]), path, mmproj=path.with_name("mmproj-" + path.name)) == info


def test_a_picture_that_the_plan_has_no_room_for_is_refused_before_it_is_decoded(model: Runtime) -> None:
    model._media_encoder._room = DecodeBudget(1_000_000)
    with pytest.raises(RequestError, match=r"1,000,000 bytes for that[\s\S]*max_tokens of at most \d+"):
        model.chat([user(show(IMAGES[0]), "What is this?")], PARAMS)
    assert model._media_encoder.cache.num_encoded == 0
