"""What people write for a model, understood without touching a disk or a network.

qwen3.5                       the family; size and quantization are chosen for this machine
qwen3.5:9b                    a size
qwen3.5:4b-q8_0               a size and a quantization; ``-mtp`` behind it asks for the draft head
owner/repo                    a repository on the hub
owner/repo:Q4_K_M             one quantization of it; ``@revision`` behind it pins a revision
hf:owner/repo                 the same; so are hf.co/owner/repo and the address of its page
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from loqal.errors import RequestError
from loqal.hub import catalog

_FAMILY = re.compile(r"(?:qwen-?3\.5|qwen35)(?::(?P<tag>[\w.-]+))?", re.IGNORECASE)
_REPO = re.compile(r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(?::(?P<quant>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?", re.ASCII)
_PREFIXES = ("hf://", "hf:", "https://huggingface.co/", "http://huggingface.co/", "huggingface.co/", "hf.co/")
_DRAFT = "-mtp"
_SAFETENSORS = ("safetensors", "original")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a name asks for. ``size`` is set for names of the family, ``repo`` for repositories."""

    name: str  # as written
    size: str | None = None  # a key of the catalog; None with repo None: to be chosen
    repo: str | None = None  # owner/name on the hub
    quant: str | None = None  # as written; None: to be chosen
    revision: str | None = None
    draft: bool = False  # with the draft head
    safetensors: bool = False  # the original weights

    @property
    def is_open(self) -> bool:
        """Whether something is left for the machine to decide."""
        return self.repo is None and (self.size is None or (self.quant is None and not self.safetensors))


def looks_like_name(word: str) -> bool:
    """Whether a word is written like a name of the family or of a repository."""
    return _FAMILY.fullmatch(word) is not None or _repo_match(word) is not None


def parse(name: str) -> Wanted | None:
    """What a name asks for; None when it is written like neither form.

    Raises:
        RequestError: the name is of the family, but its tag is not.
    """
    family = _FAMILY.fullmatch(name)
    if family is not None:
        return _tagged(name, family["tag"])
    match = _repo_match(name)
    if match is None:
        return None
    return Wanted(name, repo=match["repo"], quant=match["quant"], revision=match["revision"])


def _repo_match(word: str) -> re.Match[str] | None:
    for prefix in _PREFIXES:
        if word.lower().startswith(prefix):
            return _REPO.fullmatch(word[len(prefix) :].rstrip("/"))
    return _REPO.fullmatch(word)


def _tagged(name: str, tag: str | None) -> Wanted:
    rest = (tag or "latest").lower()
    draft = rest.endswith(_DRAFT)
    rest = rest.removesuffix(_DRAFT)
    if rest == "latest":
        return Wanted(name, draft=draft)
    # The longest size first, so that 35b-a3b is not taken for 35b and a quantization called a3b.
    labels = {label for size in catalog.releases() for label in (size.lower(), size.lower().partition("-")[0])}
    for label in sorted(labels, key=len, reverse=True):
        if rest == label or rest.startswith(label + "-"):
            size, quant = catalog.find_size(label), rest[len(label) + 1 :] or None
            assert size is not None
            if quant in _SAFETENSORS:
                return Wanted(name, size=size, safetensors=True)
            return Wanted(name, size=size, quant=_known(name, size, quant), draft=draft)
    known = ", ".join(size.lower() for size in catalog.releases())
    raise RequestError(
        f"{name!r} is not a published model.",
        f"The sizes of {catalog.FAMILY} are {known}.",
        f"Write for example {catalog.FAMILY}:4b.",
    )


def _known(name: str, size: str, quant: str | None) -> str | None:
    if quant is None:
        return None
    file = catalog.releases()[size].file(quant)
    if file is None:
        quants = ", ".join(file.quant for file in catalog.releases()[size].files)
        raise RequestError(
            f"{name!r} is not a published model.",
            f"Published for {size} are {quants}.",
            f"Write for example {catalog.FAMILY}:4b-q8_0.",
        )
    return file.quant
