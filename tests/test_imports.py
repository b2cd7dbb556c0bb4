"""What each entry point imports: starting fast means not importing what is not needed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHAT = (
    "import loqal\n"
    "with loqal.load(context_len=256) as model:\n"
    "    model.chat([{'role': 'user', 'content': 'Hi'}], loqal.SamplingParams(max_tokens=2))\n"
)
COMMAND = "import sys\nsys.argv = ['loqal', *{words!r}]\nfrom loqal.cli.main import main\nsys.exit(main())\n"
REPORT = (
    "import atexit, json, sys\natexit.register(lambda: open({out!r}, 'w').write(json.dumps(sorted(sys.modules))))\n"
)

SERVER = {"starlette", "uvicorn", "pydantic", "prometheus_client"}
TERMINAL = {"prompt_toolkit", "rich"}
NETWORK = {"huggingface_hub", "httpx", "requests"}
MODEL = {"numpy", "tokenizers", "loqal.ops._kernels"}
SELDOM = {"jinja2", "llguidance", "av"}  # templates of files, structured output, videos

# By entry point: its code, what it must not import, and how many modules of loqal it imports at most.
ENTRY_POINTS = {
    "import loqal": ("import loqal", {*MODEL, "PIL", "asyncio", *SERVER, *TERMINAL, *NETWORK, *SELDOM}, 1),
    "loqal --help": (COMMAND.format(words=["--help"]), {*MODEL, "PIL", "asyncio", *SERVER, *TERMINAL, *NETWORK}, 12),
    "loqal run --help": (
        COMMAND.format(words=["run", "--help"]),
        {"tokenizers", "loqal.ops._kernels", "PIL", "asyncio", *SERVER, *TERMINAL, *NETWORK, *SELDOM},
        52,
    ),
    "loqal run": (
        COMMAND.format(words=["run", "--max-tokens", "2", "Say hi."]),
        {*SERVER, *TERMINAL, *NETWORK, *SELDOM, "loqal.server"},
        160,
    ),
    "loqal.load": (CHAT, {*SERVER, *TERMINAL, *NETWORK, *SELDOM, "loqal.server", "loqal.cli"}, 154),
    "loqal serve": (
        COMMAND.format(words=["serve", "--port", "0"]),
        {*TERMINAL, *NETWORK, *SELDOM, "loqal.quantize"},
        216,
    ),
}


def imported(code: str, out: Path, *, is_server: bool) -> set[str]:
    """The modules of a process that has run some code; a server is interrupted once it says its address."""
    arguments = [sys.executable, "-c", REPORT.format(out=str(out)) + code]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if is_server:
            assert process.stdout.readline().startswith("http://")
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return set(json.loads(out.read_text()))


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_an_entry_point_imports_what_it_needs(name: str, tmp_path: Path) -> None:
    code, denied, most = ENTRY_POINTS[name]
    found = imported(code, tmp_path / "modules.json", is_server=name == "loqal serve")
    assert not denied & found
    own = sorted(module for module in found if module.split(".")[0] == "loqal")
    assert len(own) <= most, own
