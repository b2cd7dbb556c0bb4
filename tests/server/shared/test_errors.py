"""What an error becomes on its way to a client."""

from __future__ import annotations

import pytest

from loqal.errors import CapacityError, CheckpointError, ContextError, LoqalError, RequestError
from loqal.server.shared.errors import STATUS, FieldError, RefusedError, problem


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ContextError("a", "b", "c"), "context_length"),
        (RequestError("a", "b", "c"), "invalid_request"),
        (CapacityError("a", "b", "c"), "overloaded"),
        (FieldError("x", "b", "c"), "invalid_request"),
        (RefusedError("gone", "a", "b", "c"), "gone"),
    ],
)
def test_kinds(error: LoqalError, kind: str) -> None:
    found = problem(error)
    assert found.kind == kind and found.status == STATUS[found.kind]
    assert found.message == str(error)


def test_the_path_of_a_field_is_kept() -> None:
    assert problem(FieldError("messages[0].content", "why", "fix")).path == "messages[0].content"
    assert problem(RequestError("a", "b", "c")).path is None
    assert FieldError("", "why", "fix").path == ""


def test_of_a_bug_a_client_learns_nothing() -> None:
    for error in (ZeroDivisionError("secret"), CheckpointError("secret", "path", "x"), KeyboardInterrupt("secret")):
        found = problem(error)
        assert (found.kind, found.status) == ("internal", 500)
        assert "secret" not in found.message


def test_headers_that_clients_understand() -> None:
    def headers(retry_s: float) -> str:
        return problem(RefusedError("rate_limit", "a", "b", "c", retry_s=retry_s)).headers["Retry-After"]

    assert [headers(seconds) for seconds in (0.01, 1.2, 7.6)] == ["1", "1", "8"]
    assert problem(RefusedError("authentication", "a", "b", "c")).headers == {"WWW-Authenticate": "Bearer"}
    assert problem(RefusedError("permission", "a", "b", "c")).headers == {}
