"""A safetensors checkpoint: its files, its configuration, and the JSON files beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loqal.errors import CheckpointError, FormatError, TensorError, UnsupportedError
from loqal.model.sizes import size_label
from loqal.model.tensor_names import HF_PREFIXES, hf_options
from loqal.weights.binding import Inventory, Located, ModelFile
from loqal.weights.config_json import JsonConfig, read_config
from loqal.weights.folder import read_bytes, read_json
from loqal.weights.mapped import MappedFile
from loqal.weights.safetensors import read_header

MAX_TOKENIZER_BYTES = 256 << 20
_JSON_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
    "chat_template.json",
)


def open_files(files: list[Path], index: dict[str, str]) -> ModelFile:
    """Read the headers of ``files`` and the JSON files in their folder. ``index`` maps tensor names to file names."""
    folder = files[0].parent
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{folder} has no config.json.",
            "Safetensors files do not say what model they hold.",
            "Fetch config.json too.",
        )
    metadata = {name: read_json(folder / name) for name in _JSON_FILES if (folder / name).is_file()}
    declared = read_config(metadata["config.json"], str(folder / "config.json"))
    mapped = tuple(MappedFile(path) for path in files)
    located: dict[str, Located] = {}
    for file in mapped:
        for tensor in read_header(file.view, str(file.path)).tensors:
            if tensor.name in located:
                twice = located[tensor.name].file.path.name
                raise FormatError(
                    f"{tensor.name} is in {twice} and in {file.path.name}.",
                    "Only one can be meant.",
                    "Fetch the files again.",
                )
            located[tensor.name] = Located(file, tensor)
    for name, file_name in index.items():
        if name not in located or located[name].file.path.name != file_name:
            raise TensorError(f"{file_name} lacks {name}.", "The index lists it there.", "Fetch the files again.")
    tokenizer = folder / "tokenizer.json"
    return ModelFile(
        name=folder.resolve().name,
        inventory=_inventory(declared, located, str(folder)),
        metadata=metadata,
        tokenizer_json=read_bytes(tokenizer, MAX_TOKENIZER_BYTES) if tokenizer.is_file() else None,
        chat_template=_chat_template(folder, metadata),
        eos_token_ids=_eos_token_ids(metadata),
        size_label=size_label(declared.config),
        mapped=mapped,
    )


def _inventory(declared: JsonConfig, located: dict[str, Located], where: str) -> Inventory:
    config, prefixes = declared.config, HF_PREFIXES[declared.architecture]

    def ignore(name: str) -> str | None:
        if name.endswith(".rotary_emb.inv_freq"):
            return "rotary frequencies are computed"
        if config.tied_head and name == "lm_head.weight":
            return "the output matrix is declared to be the embedding"
        if config.vision is None and name.startswith(prefixes["vision"]):
            return "config.json describes a model without vision"
        if config.num_draft_layers == 0 and name.startswith(prefixes["draft"]):
            return "config.json describes a model without draft layers"
        return None

    if any(name.startswith("language_model.model.") for name in located):
        raise UnsupportedError(
            f"{where} holds tensors under language_model.model.",
            "That is the layout of MLX, which changes the values as well as the names.",
            "Use the original safetensors or a GGUF file of this model.",
        )
    return Inventory(
        where=where,
        config=config,
        located=located,
        options=lambda entry: hf_options(entry, config, declared.architecture),
        ignore=ignore,
        optional=("draft", "vision"),
        leading_ones=False,
    )


def _chat_template(folder: Path, metadata: dict[str, Any]) -> str | None:
    """The template in its own file, else the one in chat_template.json or tokenizer_config.json."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        try:
            return read_bytes(own).decode("utf-8")
        except UnicodeDecodeError as error:
            raise FormatError(
                f"{own} is not UTF-8.", f"Byte {error.start} is not valid.", "Fetch the file again."
            ) from None
    for name in ("chat_template.json", "tokenizer_config.json"):
        template = metadata.get(name, {}).get("chat_template")
        if isinstance(template, list):  # several named templates
            named = {t.get("name"): t.get("template") for t in template if isinstance(t, dict)}
            template = named.get("default")
        if isinstance(template, str):
            return template
    return None


def _eos_token_ids(metadata: dict[str, Any]) -> tuple[int, ...]:
    """Ends declared by the tokenizer, the generation settings and the configuration, in this order."""
    tokenizer, config = metadata.get("tokenizer_config.json", {}), metadata["config.json"]
    text = config.get("text_config")
    found: list[Any] = [_token_id(tokenizer)]
    for table in (metadata.get("generation_config.json", {}), config, text if isinstance(text, dict) else {}):
        ids = table.get("eos_token_id")
        found += ids if isinstance(ids, list) else [ids]
    return tuple(dict.fromkeys(i for i in found if type(i) is int and i >= 0))


def _token_id(tokenizer: dict[str, Any]) -> int | None:
    eos = tokenizer.get("eos_token")
    if isinstance(eos, dict):
        eos = eos.get("content")
    added = tokenizer.get("added_tokens_decoder")
    if not isinstance(added, dict):
        return None
    for token_id, token in added.items():
        if isinstance(token, dict) and token.get("content") == eos and token_id.isdecimal() and len(token_id) < 10:
            return int(token_id)
    return None
