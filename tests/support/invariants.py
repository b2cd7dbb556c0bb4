"""What holds for every model, format and backend: one answer, whatever happened around it.

Each helper runs one machine in two ways, or several machines in one way, and compares the logits of trunk and draft
head bit for bit; ``close_to_the_reference`` alone has a bound. A helper leaves the machine's store as it found it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from loqal.ops.backends.cpu import CpuPages, CpuSlots
from loqal.ops.backends.reference import ReferencePages, ReferenceSlots
from loqal.ops.interface import PAGE_TOKENS, FloatArray
from loqal.state.store import Capture, SequenceState
from machine import Ids, Machine

NUM_ALONE = 24


def same_bits(actual: FloatArray, expected: FloatArray, what: str) -> None:
    """Fail unless two results agree in every bit, and are numbers."""
    assert actual.shape == expected.shape, f"{what}: {actual.shape} is not {expected.shape}"
    assert np.isfinite(expected).all(), f"{what}: not finite"
    rows = (actual.view(np.uint32) != expected.view(np.uint32)).any(axis=1)
    assert not rows.any(), f"{what}: {rows.sum()} of {len(rows)} rows differ, row {rows.argmax()} first"


@contextmanager
def opened(machine: Machine, count: int = 1) -> Iterator[list[SequenceState]]:
    """Fresh sequences, and a check that nothing is left in the store that was not there before."""
    free = machine.store.slots.num_free, machine.store.pages.num_free
    states = [machine.store.open() for _ in range(count)]
    yield states
    for state in states:
        machine.store.release(state)
    assert (machine.store.slots.num_free, machine.store.pages.num_free) == free, "slots or pages leaked"


def whole(machine: Machine, ids: Ids) -> FloatArray:
    """The logits of a sequence that runs alone and in one step."""
    with opened(machine) as (state,):
        return machine.step((state, ids))[0]


def chunked_is_whole(machine: Machine, ids: Ids, chunk_lens: Iterable[int]) -> None:
    """Cutting a prompt into chunks changes nothing. ``chunk_lens`` may go on for longer than the prompt."""
    with opened(machine) as (state,):
        rows = []
        for chunk_len in chunk_lens:
            rows.append(machine.step((state, ids[state.length : state.length + chunk_len]))[0])
            if state.length == len(ids):
                break
        same_bits(np.concatenate(rows), whole(machine, ids), "cut into chunks")


def batched_is_alone(machine: Machine, prompts: Sequence[Ids], chunk_len: int) -> None:
    """Companions change nothing, whether they are long or short, join later or have left."""
    with opened(machine, len(prompts)) as states:
        rows: list[list[FloatArray]] = [[] for _ in prompts]
        turn = 0
        while any(state.length < len(ids) for state, ids in zip(states, prompts, strict=True)):
            # Sequence s joins at turn s; each takes a longer bite than the one before it.
            active = [s for s, ids in reversed([*enumerate(prompts)]) if s <= turn and states[s].length < len(ids)]
            bites = [(states[s].length, states[s].length + 1 + s * chunk_len) for s in active]
            runs = [(states[s], prompts[s][start:end]) for s, (start, end) in zip(active, bites, strict=True)]
            for s, result in zip(active, machine.step(*runs), strict=True):
                rows[s].append(result)
            turn += 1
    for s, ids in enumerate(prompts):
        same_bits(np.concatenate(rows[s]), whole(machine, ids), f"sequence {s} among companions")


def adopted_is_computed(machine: Machine, ids: Ids, at: int) -> None:
    """A prefix taken up from a capture continues like one that was computed, as often as it is taken up."""
    expected = whole(machine, ids)[at:]
    with opened(machine) as (first,):
        machine.step((first, ids[:at]))
        capture = machine.store.capture(first)
        same_bits(machine.step((first, ids[at:]))[0], expected, "after a capture")
        for _ in range(2):
            _continues(machine, capture, ids[at:], expected)
        machine.store.release(capture)


def captured_within_a_step(machine: Machine, ids: Ids, at: int) -> None:
    """A capture after a row inside a step equals one between two steps, and does not disturb the step."""
    expected = whole(machine, ids)
    with opened(machine) as (first,):
        slot = machine.store.slots.take()
        same_bits(machine.step((first, ids), captures=[(at - 1, slot)])[0], expected, "with a capture inside")
        pages = first.pages[: -(-at // PAGE_TOKENS)]
        for page in pages:
            machine.store.pages.share(page)
        capture = Capture(slot, tuple(pages), at)
        _continues(machine, capture, ids[at:], expected[at:])
        machine.store.release(capture)


def rewound_is_never_left(machine: Machine, ids: Ids, at: int, detour: Ids) -> None:
    """Going astray after a capture, coming back to it and going on is like never having left."""
    with opened(machine) as (state,):
        machine.step((state, ids[:at]))
        capture = machine.store.capture(state)
        machine.step((state, detour))
        _continues(machine, capture, ids[at:], whole(machine, ids)[at:])
        machine.store.release(capture)


def deferred_is_plain(machine: Machine, ids: Ids, at: int, tries: Sequence[int]) -> None:
    """Trying tokens in a step and keeping only some of them is like having fed those alone.

    ``tries`` says how many of the tokens of each try are kept; every try goes on for a few wrong tokens.
    """
    expected = whole(machine, ids)
    with opened(machine) as (state,):
        rows = machine.step((state, ids[:at]))
        for turn, kept in enumerate(tries):
            right = ids[state.length : state.length + kept]
            wrong = (np.array(ids[: turn % 3], np.int64) + 1) % 200
            length = state.length
            found = machine.try_step(state, [*right, *wrong], kept)
            same_bits(found[:kept], expected[length : length + kept], "tried")
        rows = machine.step((state, ids[state.length : state.length + 1]))
        same_bits(rows[0], expected[state.length - 1 : state.length], "after what was tried")
        machine.try_step(state, ids[state.length : state.length + 2], 2)
        capture = machine.store.capture(state)
        _continues(machine, capture, ids[state.length :], expected[state.length :])
        machine.store.release(capture)


def forks_are_independent(machine: Machine, ids: Ids, at: int, other: Ids) -> None:
    """Two sequences that start from one capture and take turns do not see each other, though they share its pages."""
    paths = ids[: at + len(other)], np.concatenate([ids[:at], other])
    expected = [whole(machine, path)[at:] for path in paths]
    with opened(machine) as (first,):
        machine.step((first, ids[:at]))
        capture = machine.store.capture(first)
        forks, rows = [machine.store.adopt(capture) for _ in paths], [list[FloatArray]() for _ in paths]
        for step in range(at, len(paths[0])):
            for fork, path, found in zip(forks, paths, rows, strict=True):
                found += machine.step((fork, path[step : step + 1]))
        for fork, found, wanted in zip(forks, rows, expected, strict=True):
            same_bits(np.concatenate(found), wanted, "beside another fork")
            machine.store.release(fork)
        machine.store.release(capture)


def _continues(machine: Machine, capture: Capture, ids: Ids, expected: FloatArray) -> None:
    state = machine.store.adopt(capture)
    rows = [machine.step((state, ids[:1]))[0], machine.step((state, ids[1:]))[0]]
    machine.store.release(state)
    same_bits(np.concatenate(rows), expected, f"taken up at {capture.length}")


def leftovers_change_nothing(machine: Machine, ids: Ids) -> None:
    """Slots and pages that others gave back, or never used, may hold anything, even NaN."""
    expected = whole(machine, ids)
    poison(machine)
    same_bits(whole(machine, ids), expected, "in poisoned memory")
    with opened(machine) as (state,):
        half = len(ids) // 2
        first = machine.step((state, ids[:half]))[0]
        machine.store.reserve(state, len(ids) - half)
        poison(machine, spare=state)
        rows = np.concatenate([first, machine.step((state, ids[half:]))[0]])
        same_bits(rows, expected, "beside poisoned memory")


def poison(machine: Machine, spare: SequenceState | None = None) -> None:
    """Fill all slots and pages with NaN, except those of one sequence."""
    keep_slots, keep_pages = ([], []) if spare is None else ([spare.slot], spare.pages)
    slots = [slot for slot in range(machine.store.slots.size) if slot not in keep_slots]
    pages = [page for page in range(machine.store.pages.size) if page not in keep_pages]
    for store in [*machine.store.mixers, machine.store.draft_pages]:
        match store:
            case CpuPages():
                for array in store.arrays:
                    array.view(np.uint8).reshape(len(array), -1)[pages] = 0xFF
            case ReferencePages():
                store.keys[pages] = store.values[pages] = np.nan
            case CpuSlots():
                store.tails[slots], store.states[slots] = np.nan, np.nan
            case ReferenceSlots():
                store.tail[slots], store.state[slots] = np.nan, np.nan
            case other:
                assert other is None, f"cannot poison {type(other)}"


def same_everywhere(machines: dict[str, Machine], ids: Ids) -> None:
    """Threads, instruction sets and file formats change nothing: all machines agree with the first.

    The prompt goes in one step, then some tokens one by one, since the two may use different kernels.
    """
    (first, expected), *others = ((name, _prompt_and_decode(machine, ids)) for name, machine in machines.items())
    assert others, "nothing to compare with"
    for name, rows in others:
        same_bits(rows, expected, f"{name} and {first}")


def close_to_the_reference(machine: Machine, reference: Machine, unrounded: Machine, ids: Ids, bound: float) -> None:
    """A backend computes what the reference does, to within ``bound`` standard deviations of the logits.

    Where activations are rounded to 8 bits, a value beside a tie may go either way, and all that follows then differs
    by about as much as rounding itself does, which ``unrounded`` shows: the same weights in float32. Such values are
    rare: most tokens that stand alone meet none.
    """
    errors, roundings = [], []
    for token in ids[:NUM_ALONE]:
        expected = whole(reference, [int(token)])
        errors.append(_largest_error(whole(machine, [int(token)]), expected))
        roundings.append(_largest_error(whole(unrounded, [int(token)]), expected))
    assert np.quantile(errors, 0.75) <= bound, f"off by {np.quantile(errors, 0.75):.1e} standard deviations"
    assert max(errors) <= bound + 2 * max(roundings), f"off by {max(errors):.1e} standard deviations"
    expected = whole(reference, ids)
    error, rounding = (_mean_error(whole(other, ids), expected) for other in (machine, unrounded))
    assert error <= bound + rounding, f"off by {error:.1e} standard deviations on average"


def _largest_error(actual: FloatArray, expected: FloatArray) -> float:
    return float(np.abs(actual - expected).max() / expected.std())


def _mean_error(actual: FloatArray, expected: FloatArray) -> float:
    return float(np.sqrt(np.square(actual - expected, dtype=np.float64).mean()) / expected.std())


def _prompt_and_decode(machine: Machine, ids: Ids, num_single: int = 6) -> FloatArray:
    with opened(machine) as (state,):
        rows = machine.step((state, ids[:-num_single]))
        for token in ids[-num_single:]:
            rows += machine.step((state, [int(token)]))
        return np.concatenate(rows)
