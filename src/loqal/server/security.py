"""Who may do what: keys with scopes. Host and Origin, limits and quotas follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["infer", "read", "manage"]
SCOPES: tuple[Scope, ...] = ("infer", "read", "manage")


@dataclass(frozen=True, slots=True)
class Client:
    """Who calls."""

    name: str = ""
    scopes: frozenset[Scope] = frozenset(SCOPES)
