"""The embedded model in llama.cpp, unchanged: the file itself, a smaller one that loqal makes of it, and its eyes."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("llama_cpp")

import llama_cpp

import loqal
from loqal.quantize import api as quantize_api
from loqal.runtime.open_model import find
from loqal.types.sampling import SamplingParams

pytestmark = pytest.mark.parity
QUESTIONS = ("What is 34 + 17?", "Label this request: dim the lights in the hall", "Who are you?")


@pytest.fixture(scope="module", params=["as shipped", "Q4_K_M"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "as shipped":
        return find().path
    path = tmp_path_factory.mktemp("demo") / f"{request.param}.gguf"
    return quantize_api.quantize(find().path, request.param, path).path


def test_answers_are_loqals(file: Path) -> None:
    theirs = llama_cpp.Llama(str(file), n_ctx=512, verbose=False, n_threads=1)
    params = SamplingParams(max_tokens=40, temperature=0)
    with loqal.load(file, context_len=512) as model:
        for question in QUESTIONS:
            messages = [{"role": "user", "content": question}]
            reply = theirs.create_chat_completion(messages=messages, temperature=0, max_tokens=40)
            assert reply["choices"][0]["message"]["content"] == model.chat(messages, params, think=False).text


def test_the_eyes_are_loaded() -> None:
    mtmd = pytest.importorskip("llama_cpp.mtmd_cpp")
    found = find()
    model = llama_cpp.Llama(str(found.path), n_ctx=512, verbose=False, n_threads=1)
    params = mtmd.mtmd_context_params_default()
    params.use_gpu, params.warmup = False, False
    context = mtmd.mtmd_init_from_file(str(found.mmproj).encode(), model._model.model, params)
    assert context and mtmd.mtmd_support_vision(context)
    mtmd.mtmd_free(context)
