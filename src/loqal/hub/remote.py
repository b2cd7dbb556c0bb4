"""The hub as seen from here: what a repository holds, and byte ranges of its files. The only module with a network.

``huggingface_hub`` supplies addresses, tokens, proxies and the meaning of error codes; this module turns its errors
into ours and asks for ranges, which the library does not.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import huggingface_hub
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import get_session, hf_raise_for_status

from loqal.errors import CheckpointError, RequestError
from loqal.hub import paths
from loqal.hub.transfer_error import TransferError

_TIMEOUT_S = 20.0  # without a byte, after which a connection is given up for a new one
_MAX_WAIT_S = 120.0  # that a server may ask us to wait
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_WORTH_ANOTHER_TRY = frozenset([408, 425, 429, 500, 502, 503, 504])


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at one commit, so its bytes never change."""

    repo: str
    commit: str
    path: str
    size_bytes: int
    etag: str  # SHA-256 of large files, git's SHA-1 of small ones: 64 or 40 hex digits
    endpoint: str

    @contextmanager
    def open(self, start: int, end: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Bytes of a range as they arrive, and the position of the first of them: 0 where a server ignores ranges.

        Raises:
            TransferError: on entering or while reading; another try may succeed.
            CheckpointError: access is refused, or the file is gone.
        """
        url = huggingface_hub.hf_hub_url(self.repo, self.path, revision=self.commit, endpoint=self.endpoint)
        headers = _headers() | {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        with (
            _transport(),
            get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT_S, follow_redirects=True) as response,
        ):
            _check_status(response, f"{self.repo}/{self.path}")
            # Without a chunk size: gathered chunks would be lost with a connection that breaks.
            yield self._first_byte(response, start), response.iter_raw()

    def _first_byte(self, response: Any, start: int) -> int:
        if response.status_code == 200:
            declared = response.headers.get("Content-Length")
            if declared is not None and int(declared) != self.size_bytes:
                raise TransferError(f"the server offers {declared} bytes instead of {self.size_bytes}")
            return 0
        match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != start or match[3] not in ("*", str(self.size_bytes)):
            raise TransferError(f"the server sent another range: {response.headers.get('Content-Range')!r}")
        return start


@dataclass(frozen=True, slots=True)
class Repository:
    """What a repository holds at one commit."""

    repo: str
    commit: str
    files: tuple[RemoteFile, ...]
    licence: str | None


def endpoint() -> str:
    """The hub's address, or the one HF_ENDPOINT names."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def list_repository(repo: str, revision: str | None = None) -> Repository:
    """Ask what a repository holds.

    Raises:
        CheckpointError: there is no such repository, access is refused, or the hub cannot be reached.
        RequestError: the network is switched off.
    """
    check_online(repo)
    where = endpoint()
    api = huggingface_hub.HfApi(endpoint=where, token=huggingface_hub.get_token())
    try:
        with _transport():
            info = api.model_info(repo, revision=revision, files_metadata=True)
    except hub_errors.HfHubHTTPError as error:
        raise _refusal(error, repo) from error
    except TransferError as error:
        raise CheckpointError(
            f"{where} cannot be reached.", f"{error}.", "Check the connection, or HF_ENDPOINT if you use a mirror."
        ) from error
    files = []
    for entry in info.siblings or []:
        etag = entry.lfs.sha256 if entry.lfs else entry.blob_id
        size = entry.lfs.size if entry.lfs else entry.size
        if etag is None or size is None:
            raise CheckpointError(
                f"{where} does not say how large {entry.rfilename} is.",
                "Without size and digest a download cannot be verified.",
                "Use another endpoint.",
            )
        files.append(RemoteFile(repo, info.sha or "main", entry.rfilename, size, etag, where))
    card = info.card_data
    licence = card.get("license") if card is not None else None
    return Repository(repo, info.sha or "main", tuple(files), licence if isinstance(licence, str) else None)


def check_online(what: str) -> None:
    """Raise RequestError when the user has switched the network off."""
    if paths.is_offline():
        raise RequestError(
            f"{what} is not on this machine, and the network is switched off.",
            "HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE or LOQAL_OFFLINE is set.",
            "Unset it to fetch the model, or name a model that `loqal list` shows.",
        )


def _headers() -> dict[str, str]:
    headers: dict[str, str] = build_hf_headers(token=huggingface_hub.get_token(), library_name="loqal")
    return headers


@contextmanager
def _transport() -> Iterator[None]:
    """Failures of the connection, whatever the HTTP library calls them, become TransferError."""
    library = sys.modules[type(get_session()).__module__.partition(".")[0]]
    try:
        yield
    except hub_errors.HfHubHTTPError:
        raise
    except (library.HTTPError, library.StreamError, ConnectionError, TimeoutError) as error:
        raise TransferError(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error


def _check_status(response: Any, what: str) -> None:
    status = response.status_code
    if status in (200, 206):
        return
    if status in _WORTH_ANOTHER_TRY:
        raise TransferError(f"the server answered {status}", _asked_wait(response))
    if status == 416:
        raise TransferError("the server does not have these bytes")
    try:
        hf_raise_for_status(response)
    except hub_errors.HfHubHTTPError as error:
        raise _refusal(error, what) from error
    raise TransferError(f"the server answered {status}")


def _asked_wait(response: Any) -> float | None:
    try:
        return min(_MAX_WAIT_S, max(0.0, float(response.headers["Retry-After"])))
    except (KeyError, ValueError):
        return None


def _refusal(error: hub_errors.HfHubHTTPError, what: str) -> CheckpointError:
    if isinstance(error, hub_errors.GatedRepoError):
        return CheckpointError(
            f"{what} may be fetched only by those who accepted its terms.",
            "The repository is gated.",
            "Accept the terms on its page, then set HF_TOKEN to a token of your account.",
        )
    if isinstance(error, hub_errors.RevisionNotFoundError):
        return CheckpointError(f"{what} has no such revision.", "The hub does not know it.", "Check the part after @.")
    status = error.response.status_code if error.response is not None else None
    if isinstance(error, hub_errors.RepositoryNotFoundError) or status in (401, 404):
        return CheckpointError(
            f"The hub does not have {what}, or it is private.",
            f"{endpoint()} answered {status}.",
            "Check the spelling; for a private repository set HF_TOKEN.",
        )
    return CheckpointError(f"{what} cannot be fetched.", f"{endpoint()} answered {status}.", "Try again later.")
