"""Tokens per second from the rates of kernels: the arithmetic, term by term."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loqal.engine.options import CHUNK_TOKENS
from loqal.model.sizes import SIZES
from loqal.performance.kernel_rates import FormatRate, KernelRates
from loqal.performance.machine_speed import Machine
from loqal.performance.predict import Speed, predict
from loqal.performance.weight_mix import Weights

CONFIG = SIZES["9B"]
MACHINE = Machine("cpu", "isa", 2, 100.0, 1000.0, 500.0, "now")
WEIGHTS = Weights({"Q4_K": 8 * 10**9}, {}, {"Q6_K": 10**9}, {"Q4_K": 10**9}, 1000, 6 * 10**9, {}, 0)
RATES = KernelRates(
    call_us=5.0,
    delta_step_us=2.0,
    delta_chunk_us=0.5,
    formats={"Q4_K": FormatRate(4.5, 60.0, 2000.0), "Q6_K": FormatRate(6.5, 80.0, 1500.0)},
)


def speed(context: int = 0, kv_bits: int = 16, weights: Weights = WEIGHTS, machine: Machine = MACHINE) -> Speed:
    return predict(CONFIG, weights, RATES, machine, context=context, kv_bits=kv_bits)


def test_a_decode_step_is_the_sum_of_its_parts() -> None:
    found = speed(context=1000)
    body_ms = 8e9 * 4.5 / 8 / 60e9 * 1e3
    head_ms = 1e9 * 6.5 / 8 / 80e9 * 1e3
    assert found.weights_ms == pytest.approx(body_ms + head_ms)
    layers = CONFIG.layers.count("attention")
    assert found.keys_ms == pytest.approx(1000 * layers * 2 * CONFIG.num_kv_heads * CONFIG.head_dim * 2 / 100e9 * 1e3)
    heads = CONFIG.layers.count("delta") * CONFIG.delta_shape.num_value_heads
    assert found.state_ms == pytest.approx(heads * 2e-6 * 1e3)
    assert found.calls_ms == pytest.approx(len(CONFIG.layers) * 8 * 5e-6 * 1e3)
    total_ms = found.weights_ms + found.keys_ms + found.state_ms + found.calls_ms
    assert found.decode == pytest.approx(0.95 * 1e3 / total_ms)


def test_a_prompt_is_arithmetic_and_the_head_once_a_chunk() -> None:
    found = speed(context=1000)
    body_s = 2 * 8e9 / 2000e9
    heads = CONFIG.layers.count("delta") * CONFIG.delta_shape.num_value_heads
    seen = 1000 + CHUNK_TOKENS / 2
    attention_s = CONFIG.layers.count("attention") * 4 * CONFIG.num_heads * CONFIG.head_dim * seen / (500e9 * 0.25)
    once_s = 1e9 * 6.5 / 8 / 80e9 + found.calls_ms / 1e3
    assert 1 / found.prefill == pytest.approx(body_s + attention_s + heads * 0.5e-6 + once_s / CHUNK_TOKENS)


def test_what_makes_it_slower() -> None:
    assert speed(context=10_000).decode < speed(context=100).decode
    assert speed(context=10_000).prefill < speed(context=100).prefill
    assert speed(context=10_000, kv_bits=8).keys_ms == pytest.approx(speed(context=5_000).keys_ms)
    assert speed(weights=replace(WEIGHTS, scale=1.1)).weights_ms == pytest.approx(1.1 * speed().weights_ms)
    slow = Machine("cpu", "isa", 2, 50.0, 1000.0, 250.0, "now")
    assert speed(1000, machine=slow).keys_ms == pytest.approx(2 * speed(1000).keys_ms)
    assert speed(1000, machine=slow).prefill < speed(1000).prefill
    assert speed(weights=replace(WEIGHTS, idle={"Q4_K": 10**12})) == speed()  # what no token passes through
