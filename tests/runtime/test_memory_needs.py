"""Whether a model fits is the engine's account, also for choosing among the models of this machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import loqal
from loqal.hub import local_models, resolve
from loqal.runtime import memory_needs, open_model


def local(path: Path, name: str = "maker/model:Q8_0") -> local_models.LocalModel:
    return local_models.LocalModel(name, "hub", path, (path,), None, "4B", "Q8_0", path.stat().st_size)


def test_a_local_model_needs_what_the_engine_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    demo = open_model.find()
    model = dataclasses.replace(local(demo.path), mmproj=demo.mmproj)
    context_len = open_model.open_model().config.context_len
    plan = loqal.plan(context_len=min(8192, context_len), max_sequences=1, cache_bytes=0)
    program = memory_needs.of_local(model) - (plan.filled_bytes(1, plan.context_len) - plan.process_bytes)
    assert 62_000_000 < program < 80_000_000
    assert memory_needs.of_local(local(demo.path)) < memory_needs.of_local(model)  # without the vision tower


def test_a_file_that_cannot_be_opened_needs_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(96))
    assert memory_needs.of_local(local(tmp_path / "broken.gguf")) == 100


def test_the_account_is_asked_only_where_a_name_leaves_a_choice() -> None:
    demo = open_model.locate()
    models = [local(demo, "a/b:Q8_0"), dataclasses.replace(local(demo, "a/b:F16"), quant="F16", size_bytes=1)]

    def never(model: local_models.LocalModel) -> int:
        raise AssertionError(model.name)

    found = resolve.find_local("a/b:Q8_0", 0, never, models)
    assert found is models[0] and resolve.find_local("a/b:F16", 0, never, models) is models[1]
    needs = {"a/b:Q8_0": 3, "a/b:F16": 2}
    assert resolve.find_local("a/b", 2, lambda model: needs[model.name], models) is models[1]
    assert resolve.find_local("a/b", 1, lambda model: needs[model.name], models) is models[0]
