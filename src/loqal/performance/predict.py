"""From the rates of the kernels and the shape of a model to tokens per second. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loqal.engine.options import CHUNK_TOKENS
from loqal.model.config import ModelConfig
from loqal.performance.kernel_rates import KernelRates
from loqal.performance.machine_speed import Machine
from loqal.performance.weight_mix import Weights

# Fitted to 0.8B, 2B and 4B on an AMD EPYC with two virtual CPUs; docs/performance.md compares predictions and outcomes.
_CALLS = 8  # times a layer distributes work to the threads, or returns to Python for long enough to count
_DECODE_SHARE = 0.95  # of the rates of single weights that a decode step of a whole model reaches; prefill reaches all
_ATTENTION_SHARE = 0.25  # assumption: the share of the float peak that attention over many keys reaches


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second of one sequence, and what a decode step is made of, in milliseconds."""

    prefill: float
    decode: float
    weights_ms: float
    state_ms: float
    keys_ms: float
    calls_ms: float


def predict(
    config: ModelConfig, weights: Weights, rates: KernelRates, machine: Machine, *, context: int, kv_bits: int
) -> Speed:
    """The speed of one sequence that has ``context`` tokens before it."""
    heads = config.layers.count("delta") * config.delta_shape.num_value_heads
    head_s = _decode_s(weights.head, rates) * weights.scale
    weights_s = _decode_s(weights.body, rates) * weights.scale + head_s
    keys_bytes = config.layers.count("attention") * 2 * config.num_kv_heads * config.head_dim * kv_bits / 8
    keys_s = context * keys_bytes / (machine.read_gb_per_s * 1e9)
    state_s = heads * rates.delta_step_us * 1e-6
    calls_s = len(config.layers) * _CALLS * rates.call_us * 1e-6
    decode_s = weights_s + keys_s + state_s + calls_s

    body_s = sum(2 * count / (rates.formats[format].prefill_gops * 1e9) for format, count in weights.body.items())
    seen = context + CHUNK_TOKENS / 2
    attention = config.layers.count("attention") * 4 * config.num_heads * config.head_dim * seen
    attention_s = attention / (machine.float_gflops * _ATTENTION_SHARE * 1e9)
    token_s = body_s + attention_s + heads * rates.delta_chunk_us * 1e-6 + (head_s + calls_s) / CHUNK_TOKENS
    return Speed(1 / token_s, _DECODE_SHARE / decode_s, weights_s * 1e3, state_s * 1e3, keys_s * 1e3, calls_s * 1e3)


def _decode_s(group: Mapping[str, int], rates: KernelRates) -> float:
    return sum(
        count * rates.formats[format].bits / 8 / (rates.formats[format].decode_gb_per_s * 1e9)
        for format, count in group.items()
    )
