"""What every answer of every dialect is: a checked record."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    """The base of every answer."""

    model_config = ConfigDict(extra="forbid", defer_build=True)
