"""Who computes when: latency of running replies, priorities, fairness, cancellation. On a scripted model and clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine_rig import PARAMS, Ask, Rig
from loqal.engine.event_stream import Mailbox
from loqal.engine.loop import Loop
from loqal.engine.running import RunningSequence
from loqal.engine.sequence import Sequence
from loqal.types.reply import TokenEvent
from scripted import ScriptedOps, scripted_loop

LONG = replace(PARAMS, max_tokens=300, logprobs=None)


def step_s(rows: int) -> float:
    """A machine that reads weights in 30 ms and takes 2 ms more for every row."""
    return 0.030 + 0.002 * rows


class Talk:
    """A sequence and when its tokens came."""

    def __init__(self, loop: Loop, ops: ScriptedOps, prompt_len: int, **more: object) -> None:
        self.mailbox: Mailbox[TokenEvent] = Mailbox()
        sequence = Sequence([(7 * i + prompt_len) % 64 for i in range(prompt_len)], LONG, **more)  # type: ignore[arg-type]
        self.active: RunningSequence = loop.add(sequence, self.mailbox)
        self._ops = ops
        self.times: list[float] = []

    def collect(self) -> None:
        while not self.mailbox.items.empty():
            if self.mailbox.items.get() is not None:
                self.times.append(self._ops.now)

    @property
    def longest_gap(self) -> float:
        return max(b - a for a, b in zip(self.times, self.times[1:], strict=False))


def run(loop: Loop, *talks: Talk, steps: int = 10**6) -> None:
    while steps and not loop.is_idle:
        loop.step()
        loop.check()
        for talk in talks:
            talk.collect()
        steps -= 1


def test_a_long_prompt_does_not_hold_up_running_replies() -> None:
    ops = ScriptedOps(step_s, 0.0)
    loop = scripted_loop(ops, None, latency_s=0.15)
    writers = [Talk(loop, ops, 10 + index) for index in range(3)]
    run(loop, *writers, steps=20)
    long = Talk(loop, ops, 3000)
    run(loop, *writers, long)
    assert max(writer.longest_gap for writer in writers) < 0.2
    # The time that is left goes to the prompt: most steps are as long as they may be.
    assert long.times[0] < 3000 / 45 * 0.15 + 2


def test_a_prompt_alone_is_read_in_large_steps() -> None:
    ops = ScriptedOps(step_s, 0.0)
    loop = scripted_loop(ops, None)
    talk = Talk(loop, ops, 2048)
    run(loop, talk, steps=4)
    assert talk.active.sequence.num_read == 2048


def test_a_short_prompt_of_another_client_passes_a_long_one() -> None:
    ops = ScriptedOps(step_s, 0.0)
    loop = scripted_loop(ops, None)
    long = Talk(loop, ops, 3900, client="a")
    run(loop, long, steps=1)
    short = Talk(loop, ops, 100, client="b")
    run(loop, long, short)
    assert short.times[0] < long.times[0]


def test_the_urgent_come_first_and_the_others_later() -> None:
    ops = ScriptedOps(step_s, 0.0)
    loop = scripted_loop(ops, None, num_slots=12, max_sequences=2)
    patient = [Talk(loop, ops, 50 + index, priority=1) for index in range(2)]
    run(loop, *patient, steps=10)
    urgent = Talk(loop, ops, 70, priority=0)
    run(loop, *patient, urgent, steps=3)
    assert urgent.times
    assert loop.counts.preemptions == 1
    run(loop, *patient, urgent)
    assert [len(talk.times) for talk in [*patient, urgent]] == [300] * 3
    assert urgent.times[-1] < max(talk.times[-1] for talk in patient)


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_cancelling_frees_everything_before_the_next_step(steps: int) -> None:
    ops = ScriptedOps(step_s, 0.0)
    loop = scripted_loop(ops, None, num_slots=6, max_sequences=4, caches=False)
    talks = [Talk(loop, ops, 1000 + index) for index in range(6)]
    run(loop, *talks, steps=steps)
    for talk in talks:
        loop.cancel(talk.mailbox)
    assert loop.is_idle
    loop.check()
    assert loop._store.slots.num_free == 6
    assert loop._store.pages.num_free == 200
    next_one = Talk(loop, ops, 20)
    run(loop, next_one)
    assert len(next_one.times) == 300


def test_what_a_cancelled_sequence_has_read_is_kept(rig: Rig) -> None:
    ask = Ask(tuple(i % 250 for i in range(400)))
    one = rig.start(ask)
    rig.loop.step()
    rig.loop.step()
    assert one.active.length == 256
    rig.loop.cancel(one.mailbox)
    again = rig.start(ask)
    rig.finish(again)
    assert again.active.sequence.cache.cached == 256


@pytest.fixture
def rig() -> Rig:
    from loqal.ops.backends.cpu import CpuOps
    from loqal.testing.checkpoints import tiny_config

    return Rig(tiny_config(), CpuOps(threads=1))
