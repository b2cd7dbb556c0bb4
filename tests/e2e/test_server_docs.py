"""The examples of docs/server.md print what they say."""

from __future__ import annotations

import gc
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs/server.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of clients that examples leave open
@pytest.mark.parametrize("example", EXAMPLES, ids=[example.split()[1] for example in EXAMPLES])
def test_an_example(example: str, server_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(example.split()[1])
    exec(example.replace("http://127.0.0.1:8000", server_url), {})
    gc.collect()
    printed = capsys.readouterr().out.splitlines()
    assert printed, "an example that prints nothing shows nothing"
    assert printed == re.findall(r"print\(.*\)  # (.*)", example)
