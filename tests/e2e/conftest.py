"""One real server for all tests with the official clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tiny_checkpoint
from loqal.runtime.open_model import find
from server_process import serving


@pytest.fixture(scope="session")
def server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the embedded model, called demo, and a tiny random one that sees, called eyes."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "eyes").mkdir()
    eyes = tiny_checkpoint.safetensors(folder / "eyes", vision=True, tied_head=False)
    with serving(folder / "log", "demo", f"eyes={eyes}") as server:
        yield server.url


@pytest.fixture(scope="session")
def picture() -> bytes:
    """The receipt that comes with the package, over 7.30, as a PNG file."""
    return (find().path.parent / "receipt.png").read_bytes()
