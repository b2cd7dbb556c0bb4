"""Names, the catalog, and what is chosen for a machine."""

from __future__ import annotations

import pytest

from loqal.chat import defaults
from loqal.errors import CapacityError, RequestError
from loqal.formats.split_files import stem_of
from loqal.hub import catalog
from loqal.hub.glance import quant_of
from loqal.hub.names import Wanted, looks_like_name, parse
from loqal.hub.recommend import Choice
from loqal.hub.recommend import choose as choose_by
from loqal.model.sizes import SIZES, parameter_count
from loqal.performance.memory_report import needed_bytes
from loqal.types.sampling import SamplingParams

GB = 10**9


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("qwen3.5", {}),
        ("Qwen3.5:latest", {}),
        ("qwen3.5:9b", {"size": "9B"}),
        ("qwen3.5:0.8B", {"size": "0.8B"}),
        ("qwen3.5:35b", {"size": "35B-A3B"}),
        ("qwen3.5:35b-a3b", {"size": "35B-A3B"}),
        ("qwen3.5:35b-a3b-q4_k_m", {"size": "35B-A3B", "quant": "Q4_K_M"}),
        ("qwen3.5:35b-ud-q4_k_xl", {"size": "35B-A3B", "quant": "UD-Q4_K_XL"}),
        ("qwen3.5:4b-q8_0", {"size": "4B", "quant": "Q8_0"}),
        ("qwen3.5:4b-q4_k_xl-mtp", {"size": "4B", "quant": "UD-Q4_K_XL", "draft": True}),
        ("qwen3.5:4b-mtp", {"size": "4B", "draft": True}),
        ("qwen3.5:2b-safetensors", {"size": "2B", "safetensors": True}),
        ("qwen3.5:2b-bf16", {"size": "2B", "quant": "BF16"}),
        ("unsloth/Qwen3.5-4B-GGUF", {"repo": "unsloth/Qwen3.5-4B-GGUF"}),
        ("unsloth/Qwen3.5-4B-GGUF:Q4_K_M", {"repo": "unsloth/Qwen3.5-4B-GGUF", "quant": "Q4_K_M"}),
        ("hf:a/b@v1.0", {"repo": "a/b", "revision": "v1.0"}),
        ("https://huggingface.co/a/b/", {"repo": "a/b"}),
        ("hf.co/a/b:Q8_0", {"repo": "a/b", "quant": "Q8_0"}),
    ],
)
def test_names(name: str, wanted: dict[str, object]) -> None:
    assert parse(name) == Wanted(name, **wanted)  # type: ignore[arg-type]
    assert looks_like_name(name)


@pytest.mark.parametrize("word", ["hello", "Why is the sky blue?", "a/b/c", "", "qwen3.5 is", "demo", "/tmp/x", "a /b"])
def test_prompts_are_no_names(word: str) -> None:
    assert parse(word) is None and not looks_like_name(word)


@pytest.mark.parametrize("name", ["qwen3.5:5b", "qwen3.5:4b-q9", "qwen3.5:x"])
def test_wrong_tags_say_what_exists(name: str) -> None:
    with pytest.raises(RequestError, match=r"is not a published model"):
        parse(name)


@pytest.mark.parametrize(
    ("stem", "quant"),
    [
        ("Qwen3.5-4B-UD-Q4_K_XL", "UD-Q4_K_XL"),
        ("Qwen3.5-4B-Q8_0", "Q8_0"),
        ("Qwen3.5-122B-A10B-UD-IQ2_XXS-00001-of-00003", "UD-IQ2_XXS"),
        ("model.BF16", "BF16"),
        ("Qwen3.5-35B-A3B-MXFP4_MOE", "MXFP4_MOE"),
        ("model", None),
    ],
)
def test_quantizations_in_file_names(stem: str, quant: str | None) -> None:
    assert quant_of(stem_of(f"{stem}.gguf")) == quant


def test_the_catalog_agrees_with_the_model_and_the_cards() -> None:
    releases = catalog.releases()
    assert list(releases) == list(SIZES)
    for size, release in releases.items():
        counts = parameter_count(SIZES[size])
        assert release.parameters == counts["total"]
        assert release.context_len == SIZES[size].context_len
        assert release.thinks == defaults.thinks_by_default(size)
        assert all(a.size_bytes <= b.size_bytes for a, b in zip(release.files, release.files[1:], strict=False))
        # A BF16 file is two bytes a parameter of the text, and a little more.
        bf16 = release.file("BF16")
        assert bf16 is not None
        assert 0 < bf16.size_bytes - 2 * counts["text"] < 60e6 + 3e-4 * bf16.size_bytes
        assert all(file.in_folder == (file.size_bytes >= 50e9) for file in release.files)
        for mode, values in release.sampling.items():
            resolved = defaults.resolve(
                SamplingParams(), size=size, thinking="thinking" in mode, media="images" in mode
            )
            assert {name: getattr(resolved, name) for name in values} == dict(values)


def choose(memory_bytes: int, read_gb_per_s: float, size: str | None = None) -> Choice:
    return choose_by(memory_bytes, read_gb_per_s, needed_bytes, size)


def test_the_choice_follows_memory_and_speed() -> None:
    assert choose(8 * GB, 40).size in ("0.8B", "2B")
    assert (choose(4 * GB, 5).size, choose(4 * GB, 5).quant) == ("0.8B", "UD-Q4_K_XL")
    assert choose(64 * GB, 400).size == "35B-A3B"
    assert choose(1000 * GB, 2000).size == "397B-A17B"
    assert choose(64 * GB, 400, "9B").quant == "UD-Q4_K_XL"
    assert choose(8 * GB, 400, "9B").quant in ("UD-Q2_K_XL", "UD-Q3_K_XL")
    assert choose(64 * GB, 10, "9B").quant == "UD-Q4_K_XL"  # slow, but asked for: no fewer bits for that
    sizes = [list(SIZES).index(choose(memory * GB, 100).size) for memory in range(2, 64)]
    assert sizes == sorted(sizes)
    for memory in range(2, 64):
        chosen = choose(memory * GB, 100)
        assert needed_bytes(chosen.size, chosen.quant, chosen.size_bytes) <= memory * GB
        assert f"of {memory}.0 GB" in chosen.why
    with pytest.raises(CapacityError, match="fits this machine"):
        choose(GB // 2, 40)
    with pytest.raises(CapacityError, match="smaller size"):
        choose(4 * GB, 40, "27B")
