"""Every verb has a file and a help text; renamed verbs keep their old names, hidden."""

from __future__ import annotations

import importlib

import pytest

from loqal.cli import main as cli


@pytest.mark.parametrize("verb", [verb for verb in cli.VERBS if verb not in ("run", "serve")])
def test_a_verb_is_the_main_of_its_module(verb: str) -> None:
    assert callable(importlib.import_module(f"loqal.cli.{cli._MODULES.get(verb, verb)}").main)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([verb, "--help"])
    out = capsys.readouterr().out
    assert left.value.code == 0 and out.startswith(f"usage: loqal {verb}")
    assert "loqal/" not in out.replace("loqal/Qwen", "")  # no advice to read source files


def test_old_names_work_and_are_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    for old, new in cli._OLD_NAMES.items():
        assert f"\n  {old} " not in out and f"\n  {new} " in out
        with pytest.raises(SystemExit):
            cli.main([old, "--help"])
        assert capsys.readouterr().out.startswith(f"usage: loqal {new}")
