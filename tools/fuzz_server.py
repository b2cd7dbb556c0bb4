"""Requests made from the OpenAPI page, sent to a running server: none may fail there, and answers are as declared.

    loqal serve demo --max-requests 512 &
    python tools/fuzz_server.py http://127.0.0.1:8000 200

Needs `pip install schemathesis`. The number is how many requests each route gets that takes any.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

_MODEL = "demo"
_FEW = 8  # tokens of an answer
_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_ALWAYS = {"/v1/chat/completions": "max_tokens", "/v1/messages": "max_tokens", "/v1/responses": "max_output_tokens"}


def tame(path: str, body: Any) -> None:
    """Name a model that is there, and keep answers short."""
    if not isinstance(body, dict):
        return
    body["model"] = _MODEL
    body.pop("background", None)
    if path in _ALWAYS:
        body.setdefault(_ALWAYS[path], _FEW)
    for name in _LIMITS:
        if isinstance(body.get(name), int):
            body[name] = min(body[name], _FEW)
    if isinstance(body.get("n"), int):
        body["n"] = min(body["n"], 3)
    if path in ("/api/chat", "/api/generate") and isinstance(body.setdefault("options", {}), dict):
        body["options"]["num_predict"] = _FEW


def main(url: str, num_cases: int) -> int:
    """Send them; 1 when something was wrong."""
    statuses: Counter[tuple[str, int]] = Counter()
    wrong: list[str] = []
    for found in schemathesis.openapi.from_url(f"{url}/openapi.json").get_all_operations():
        operation = found.ok()

        @seed(1)
        @settings(
            max_examples=num_cases,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(case=operation.as_strategy())
        def send(case: Any) -> None:
            tame(case.operation.path, case.body)
            answer = case.call(timeout=120)
            name = f"{case.operation.method} {case.operation.path}"
            statuses[name, answer.status_code] += 1
            if answer.status_code >= 500:
                wrong.append(f"{name} {answer.status_code} {str(case.body)[:500]} {answer.text[:300]}")
            elif answer.status_code == 200:
                try:
                    case.validate_response(answer, checks=(response_schema_conformance, content_type_conformance))
                except Exception as error:
                    wrong.append(f"{name} {str(case.body)[:300]} {str(error)[:600]}")

        send()
    for (name, status), count in sorted(statuses.items()):
        print(f"{name:45} {status} {count:6}")
    print(f"{statuses.total()} requests, {len(wrong)} wrong", *wrong[:20], sep="\n")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
