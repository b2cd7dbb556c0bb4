"""The command as a user meets it: real processes, pipes, signals, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import pytest

import loqal
import media_files
import tiny_checkpoint

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("LOQAL_")},
    "LOQAL_BACKEND": "reference",
    "PYTHONPATH": str(Path(loqal.__file__).parents[1]),
    "PYTHONWARNINGS": "error",
}
Result = subprocess.CompletedProcess[bytes]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tiny_checkpoint.gguf(tmp_path_factory.mktemp("cli") / "tiny.gguf", tied_head=False)
    return str(path)


def run(*words: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> Result:
    command = [sys.executable, "-m", "loqal", *words]
    return subprocess.run(command, input=stdin, capture_output=True, env={**ENVIRONMENT, **(env or {})}, timeout=60)


def record(*words: str, stdin: bytes = b"") -> dict[str, Any]:
    result = run("run", *words, "--json", stdin=stdin)
    assert result.returncode == 0, result.stderr.decode()
    assert result.stdout.count(b"\n") == 1
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def answer(*words: str, stdin: bytes = b"") -> dict[str, Any]:
    """The record without the part that differs from run to run."""
    return {name: value for name, value in record(*words, stdin=stdin).items() if name != "timings"}


def assert_refused(result: Result, exit_code: int, what: str) -> None:
    lines = result.stderr.decode().splitlines()
    assert result.returncode == exit_code, result.stderr.decode()
    assert result.stdout == b""
    assert [line.split(":")[0].strip() for line in lines[-3:]] == ["error", "why", "fix"]
    assert what in lines[-3]
    assert "Traceback" not in result.stderr.decode()


# Start ----------------------------------------------------------------------------------------------------------------


def test_version_and_help() -> None:
    assert run("--version").stdout.decode() == f"loqal {loqal.__version__}\n"
    for words in ((), ("--help",), ("-h",)):
        result = run(*words)
        assert result.returncode == 0
        assert b"exit codes" in result.stdout
    for verb in ("run", "show"):
        result = run(verb, "--help")
        assert result.returncode == 0
        assert b"exit codes" in result.stdout


def test_help_is_fast() -> None:
    durations = []
    for _ in range(5):
        started = time.perf_counter()
        run("--help")
        durations.append(time.perf_counter() - started)
    assert min(durations) < 0.2


# One prompt -----------------------------------------------------------------------------------------------------------


def test_the_json_record(model: str) -> None:
    answer = record(model, "Hello!", "--max-tokens", "8", "--seed", "5", "--no-think", "--logprobs", "2")
    assert list(answer) == [
        "text",
        "reasoning",
        "token_ids",
        "finish_reason",
        "usage",
        "timings",
        "seed",
        "tool_calls",
        "logprobs",
        "media",
        "stop_string",
        "replays",
        "incomplete_call",
        "warnings",
    ]
    assert answer["seed"] == 5
    assert answer["finish_reason"] in ("length", "stop")
    assert len(answer["token_ids"]) == answer["usage"]["completion_tokens"] == len(answer["logprobs"])
    assert {"load_ms", "first_token_ms", "prefill_tokens_per_s", "decode_tokens_per_s"} < set(answer["timings"])
    assert [len(entry["top"]) for entry in answer["logprobs"]] == [2] * len(answer["token_ids"])
    with loqal.load(model, backend="reference") as same:
        params = loqal.SamplingParams(max_tokens=8, seed=5)
        reply = same.chat([{"role": "user", "content": "Hello!"}], params, think=False)
    assert answer["token_ids"] == list(reply.token_ids)
    assert answer["text"] == reply.text


def test_logprobs_are_there_only_when_asked(model: str) -> None:
    assert "logprobs" not in record(model, "Hello!", "--max-tokens", "2")


def test_the_answer_goes_to_stdout_and_the_reasoning_to_stderr(model: str) -> None:
    words = (model, "Hello!", "--max-tokens", "12", "--seed", "5")
    expected = record(*words, "--no-think")
    result = run("run", *words, "--no-think")
    assert result.stdout.decode().rstrip("\n") == expected["text"].rstrip("\n")
    assert result.stderr == b""
    expected = record(*words, "--think")
    result = run("run", *words, "--think")
    assert expected["reasoning"]
    assert result.stderr.decode().rstrip("\n") == expected["reasoning"].rstrip("\n")


def test_flags_may_stand_anywhere(model: str) -> None:
    flags = ("--max-tokens", "4", "--seed", "5")
    scattered = answer("--seed", "5", model, "two words", *flags[:2])
    assert answer(model, *flags, "two", "words") == scattered


def test_piped_text_follows_the_prompt_after_a_blank_line(model: str) -> None:
    flags = ("--max-tokens", "4", "--seed", "5")
    both = answer(model, "Summarise:", *flags, stdin="häß".encode())
    assert both == answer(model, "Summarise:\n\nhäß", *flags)
    assert answer(model, *flags, stdin=b"alone") == answer(model, "alone", *flags)


def test_raw_prompts_and_ids(model: str) -> None:
    flags = ("--max-tokens", "4", "--seed", "5")
    by_text, by_ids = answer(model, "--raw", "<|im_end|>a", *flags), answer(model, "--prompt-ids", "258,97", *flags)
    assert by_text == by_ids
    assert by_text["usage"]["prompt_tokens"] == 2


def test_system_messages(model: str) -> None:
    flags = ("--max-tokens", "4", "--seed", "5")
    plain, with_system = record(model, "Hi", *flags), record(model, "Hi", "--system", "Rhyme.", *flags)
    assert with_system["usage"]["prompt_tokens"] > plain["usage"]["prompt_tokens"]


def test_verbose(model: str) -> None:
    result = run("run", model, "Hi", "--max-tokens", "4", "--no-think", "--verbose")
    for word in ("prompt tokens", "first token", "prefill", "decode", "seed"):
        assert word in result.stderr.decode()


# Errors ---------------------------------------------------------------------------------------------------------------


def test_wrong_command_lines(model: str) -> None:
    assert_refused(run("nonsense"), 2, "nonsense")
    assert_refused(run("run", model), 2, "prompt is empty")
    assert_refused(run("run", model, "   "), 2, "prompt is empty")
    assert_refused(run("run", model, "Hi", "--top-p", "2"), 2, "top_p")
    assert_refused(run("run", model, "Hi", "--threads", "0"), 2, "--threads")
    assert_refused(run("run", model, "Hi", "--prompt-ids", "1"), 2, "as ids")
    assert_refused(run("run", model, "Hi", "--raw", "--think"), 2, "raw")
    assert_refused(run("run", model, "Hi", "--context-len", "4"), 2, "does not fit")
    assert_refused(run("run", model, "--prompt-ids", "1,9999"), 2, "9999")
    assert_refused(run("run", model, stdin=b"\xff"), 2, "not text")
    assert_refused(run("run", model, "Hi", env={"LOQAL_THREADS": "many"}), 2, "LOQAL_THREADS")
    result = run("run", model, "Hi", "--nonsense")
    assert result.returncode == 2
    assert result.stderr.decode().startswith("error: ")


def test_unusable_models(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(20))
    for verb in ("run", "show"):
        words = ("Hi",) if verb == "run" else ()
        assert_refused(run(verb, "nonsense", *words), 3, "nonsense")
        assert_refused(run(verb, "missing.gguf", *words), 3, "missing.gguf")
        result = run(verb, str(broken), *words)
        assert result.returncode == 3
        assert "Traceback" not in result.stderr.decode()


def test_a_prompt_without_a_model_is_for_the_embedded_one() -> None:
    result = run("run", "Why is the sky blue?", "--max-tokens", "1")
    assert result.returncode == 0
    assert result.stderr.decode().startswith("No model named, so the embedded one answers")
    assert result.stdout


# Signals and pipes ----------------------------------------------------------------------------------------------------


def endless(model: str) -> subprocess.Popen[bytes]:
    """A reply that fills the whole context, so that it can be interrupted."""
    command = [sys.executable, "-m", "loqal", "run", model, "Hi", "--ignore-eos", "--no-think", "--seed", "1"]
    return subprocess.Popen(
        command, bufsize=0, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )


def read_some(stream: IO[bytes] | None) -> bytes:
    assert stream is not None
    data = stream.read(1)
    assert data
    return data


def test_an_interrupt_ends_quietly(model: str) -> None:
    with endless(model) as process:
        first = read_some(process.stdout)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == b""
    assert (first + out).endswith(b"\n")


def test_a_closed_pipe_ends_quietly(model: str) -> None:
    with endless(model) as process:
        read_some(process.stdout)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=30) == 141
        assert process.stderr.read() == b""


# Show -----------------------------------------------------------------------------------------------------------------


def test_show(model: str, tmp_path: Path) -> None:
    result = run("show", model)
    assert result.returncode == 0
    text = result.stdout.decode()
    for word in ("qwen35", "654,296", "3 recurrent, 1 attention", "4,096 tokens", "F32", "draft head", "tiny.gguf"):
        assert word in text, word
    answer = json.loads(run("show", model, "--json").stdout)
    assert answer["num_attention_layers"] == 1
    assert answer["quantization"][0]["format"] == "F32"
    folder = tiny_checkpoint.safetensors(tmp_path / "folder", num_draft_layers=1, vision=True)
    answer = json.loads(run("show", str(folder), "--json").stdout)
    assert (answer["has_draft_head"], answer["has_vision"]) == (True, True)


# Images and videos ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """A model with a tower, a picture and a film."""
    folder = tmp_path_factory.mktemp("seeing")
    model = tiny_checkpoint.safetensors(folder / "tiny", tied_head=False, vision=True)
    (folder / "photo.png").write_bytes(media_files.encoded(media_files.picture(200, 100), "PNG"))
    (folder / "film.mp4").write_bytes(media_files.video(8))
    return str(model), str(folder / "photo.png"), str(folder / "film.mp4")


def test_a_picture_among_the_words(seeing: tuple[str, str, str]) -> None:
    model, photo, film = seeing
    words = ("--max-tokens", "3", "--seed", "1", "--max-image-tokens", "8", "--max-video-tokens", "8")
    found = answer(model, "What is this?", photo, *words)
    assert [one["kind"] for one in found["media"]] == ["image"]
    assert found["media"][0]["source_size"] == [200, 100]
    assert answer(model, "What is this?", "--image", photo, *words) == found
    both = answer(model, "Compare.", "--image", photo, "--video", film, *words)
    assert [one["kind"] for one in both["media"]] == ["image", "video"]
    assert_refused(run("run", model, "--raw", "x", "--image", photo), 2, "raw prompt")
    assert_refused(run("run", model, "x", "--image", photo + ".none"), 2, "cannot be opened")


def test_show_media(seeing: tuple[str, str, str]) -> None:
    model, photo, film = seeing
    result = run("show", "--media", photo, "--media", film)
    assert result.returncode == 0, result.stderr.decode()
    lines = result.stdout.decode().splitlines()
    assert "200 x 100 pixels" in lines[0] and lines[0].endswith("tokens")
    assert "seconds" in lines[2]
    told = json.loads(run("show", model, "--media", photo, "--json", "--max-image-tokens", "4").stdout)
    assert told["num_tokens"] <= 4
    assert_refused(run("show", "--media", model), 2, "cannot be opened")
