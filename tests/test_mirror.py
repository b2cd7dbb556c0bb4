"""Every module has tests that know it by its name: a failure there points to it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "src/loqal"

# Modules that no test imports, and what runs them instead.
RUN_BY_OTHERS = {
    "__main__": "e2e/test_cli.py starts it",
    "cli.diagnosis": "performance/test_planner.py reads what doctor prints",
    "cli.doctor": "performance/test_planner.py runs the verb",
    "cli.line_editor": "e2e/test_cli_terminal.py types into it",
    "cli.compare": "quantize/test_quantize.py runs the verb",
    "cli.gc": "hub/test_local_models.py runs the verb",
    "cli.imatrix": "quantize/test_quantize.py runs the verb",
    "cli.import_model": "hub/test_local_models.py runs the verb",
    "cli.list_models": "hub/test_local_models.py runs the verb",
    "cli.local_model": "hub/test_local_models.py names models to the verbs",
    "cli.repair": "hub/test_local_models.py runs the verb",
    "cli.rm": "hub/test_local_models.py runs the verb",
    "cli.verify": "hub/test_local_models.py runs the verb",
    "cli.plan": "performance/test_planner.py runs the verb",
    "cli.pull": "hub/test_local_models.py runs the verb",
    "cli.quantize": "quantize/test_quantize.py runs the verbs",
    "cli.run": "cli/test_chat.py and e2e/test_cli.py run the verb",
    "cli.serve": "e2e/test_server_process.py runs the verb",
    "cli.show": "hub/test_local_models.py runs the verb",
    "formats.format": "formats/test_decode.py compares every format with the gguf package",
    "testing.vocabularies": "testing/test_checkpoints.py reads them in the checkpoints it writes",
    "formats.i_quants": "formats/test_decode.py compares every format with the gguf package",
    "formats.k_encode": "formats/test_encode.py holds every encoder to its error",
    "formats.k_quants": "formats/test_decode.py compares every format with the gguf package",
    "formats.tables": "formats/test_decode.py compares every format with the gguf package",
    "hub.download": "hub/test_download.py pulls from an emulated hub through the face of the package",
    "hub.fetch": "hub/test_download.py pulls from an emulated hub through the face of the package",
    "hub.remote": "hub/test_download.py pulls from an emulated hub through the face of the package",
    "hub.transfer_error": "a class without behaviour",
    "engine.speculation.drafter": "engine/speculation/test_drafting.py drives it through the loop",
    "model.draft_head": "model/test_invariants.py and model/test_golden.py run it in a decoder",
    "ops.timing_interface": "a protocol without behaviour",
    "quantize.compare": "quantize/test_quantize.py runs the verb compare",
    "quantize.writer": "quantize/test_quantize.py writes files through the face of the package",
    "runtime.model_info": "runtime/test_runtime.py reads it from a loaded model",
    "server.anthropic.routes": "e2e/test_client_anthropic.py calls them with the official client",
    "server.native.routes": "server/test_app.py calls them",
    "server.native.schema": "records without behaviour",
    "server.service.dialect": "records without behaviour",
    "server.shared.logprobs": "e2e/test_client_openai.py and e2e/test_client_ollama.py read what it writes",
    "server.shared.prompt_length": "server/test_tokenizing.py sends prompts that are too long",
    "server.ollama.routes": "e2e/test_client_ollama.py calls them with the official client",
    "server.openai.routes": "e2e/test_client_openai.py calls them with the official client",
    "server.openapi": "server/test_app.py reads the page it makes",
    "server.serve": "e2e/test_server_process.py starts it",
    "server.shared.schema": "a class without behaviour",
    "weights.binding": "weights/test_load.py and weights/test_errors.py bind whole checkpoints",
    "weights.open_gguf": "weights/test_load.py and weights/test_errors.py open whole checkpoints",
    "weights.open_safetensors": "weights/test_load.py and weights/test_errors.py open whole checkpoints",
}


def modules() -> list[str]:
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return sorted(".".join(path.parts) for path in paths if path.name != "__init__")


def imported(path: Path) -> Iterator[str]:
    """Modules of the package that a test file imports, without the package's name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name.removeprefix("loqal.") for name in names if name.startswith("loqal."))


KNOWN = {name for path in TESTS.rglob("test_*.py") for name in imported(path)}


@pytest.mark.parametrize("module", modules())
def test_a_test_file_imports_it(module: str) -> None:
    assert (module in KNOWN) != (module in RUN_BY_OTHERS), "it has a test file or a reason, and not both"


def test_reasons_are_of_modules_and_name_tests() -> None:
    assert set(RUN_BY_OTHERS) <= set(modules())
    for reason in RUN_BY_OTHERS.values():
        files = [word for word in reason.split() if word.endswith(".py")]
        assert files or reason.endswith("without behaviour")
        assert all((TESTS / file).exists() for file in files), reason
