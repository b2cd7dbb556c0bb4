"""From a name to a model on this machine. Nothing is fetched and nothing is asked here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loqal.errors import CheckpointError
from loqal.hub import catalog
from loqal.hub.local_models import LocalModel, all_models
from loqal.hub.names import Wanted, parse

NeededBytes = Callable[[LocalModel], int]
"""Bytes of memory that a local model needs with a context of some thousand tokens."""


def find_local(
    name: str, memory_bytes: int, needed_bytes: NeededBytes, models: Sequence[LocalModel] | None = None
) -> LocalModel | None:
    """The local model a name stands for; None when there is none.

    A name as ``loqal list`` shows it, then a name of the family or of a repository. When a name leaves the quantization
    open, the largest local file that fits the memory counts.

    Raises:
        RequestError: the name is of the family, but its tag is not.
    """
    found = matching(name, models)
    if len(found) < 2:
        return next(iter(found), None)
    affordable = [model for model in found if needed_bytes(model) <= memory_bytes]
    return max(affordable or found, key=lambda model: model.size_bytes)


def matching(name: str, models: Sequence[LocalModel] | None = None) -> list[LocalModel]:
    """The local models a name may stand for: more than one only where it leaves the quantization open.

    Raises:
        RequestError: the name is of the family, but its tag is not.
    """
    models = all_models() if models is None else models
    exact = [model for model in models if model.name.lower() == name.lower()]
    if exact:
        return exact[:1]
    wanted = parse(name)
    if wanted is None:
        return []
    found = [model for model in models if _matches(model, wanted)]
    return found if wanted.quant is None and not wanted.safetensors else found[:1]


def _matches(model: LocalModel, wanted: Wanted) -> bool:
    if wanted.repo is not None:
        if model.repo is None or model.repo.lower() != wanted.repo.lower():
            return False
    elif wanted.size is not None and model.size != wanted.size:
        return False
    if wanted.draft and "mtp" not in model.name.lower():
        return False
    if wanted.safetensors:
        return model.quant == "safetensors"
    if wanted.quant is None:
        return True
    if model.quant is None:
        return False
    if wanted.quant.upper().startswith("UD-"):  # named exactly: the dynamic mixture, not the plain one
        return model.quant.upper() == wanted.quant.upper()
    return catalog.plain_quant(model.quant) == catalog.plain_quant(wanted.quant)


def unknown(name: str, models: Sequence[LocalModel]) -> CheckpointError:
    """The error for a name under which nothing is here."""
    listed = ", ".join(model.name for model in models[:4]) + (", ..." if len(models) > 4 else "")
    here = f"On this machine: {listed}." if models else "No model of the family was found on this machine."
    if parse(name) is not None:
        return CheckpointError(f"{name} is not on this machine.", here, f"Fetch it: loqal pull {name}")
    return CheckpointError(
        f"The model {name!r} was not found.",
        f"It is neither a file nor a folder nor a name. {here}",
        f"Names look like {catalog.FAMILY}:4b or owner/repo:Q4_K_M. "
        f'To prompt the embedded model: loqal run "{name} ..."',
    )
