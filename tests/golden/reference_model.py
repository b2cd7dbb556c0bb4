"""Runs transformers in float32 over the cases of logit_cases.py. Needs torch and transformers.

transformers ignores the draft head of a checkpoint, so it is put together here from the building blocks of the trunk:
the embedding of the next token and the hidden row are normed, laid side by side and projected, then pass one full
attention layer and a norm; embedding and output head are the trunk's.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden.logit_cases import GREEDY_TOKENS, Case, Recording, rows_to_keep
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.models.qwen3_5 import modeling_qwen3_5
from transformers.models.qwen3_5_moe import modeling_qwen3_5_moe

CLOSE = 2e-4
"""A router whose k-th and next probability are closer than this might choose otherwise behind float16 keys."""


class Reference:
    """The checkpoint in ``folder``, which holds the weights of ``case``, as transformers loads it."""

    def __init__(self, case: Case, folder: Path) -> None:
        self._case, self._folder = case, folder
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()

    @torch.no_grad()
    def record(self, digest: int) -> Recording:
        """Continue the prompt greedily."""
        case, gaps = self._case, list[float]()
        for router in _routers(self._model):
            router.register_forward_hook(lambda module, inputs, output: gaps.append(_gap(output[0], module.top_k)))
        ids, logits, hidden = _greedy(self._model, case)
        assert min(gaps, default=1.0) > CLOSE, f"{case.name}: a router is {min(gaps):.1e} from a tie, use another seed"
        rows = rows_to_keep(case, case.num_tokens)
        best = np.sort(logits[case.prompt_len - 1 : -1], axis=1)
        draft_rows, draft_logits, chained = np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.float32)
        if case.config.num_draft_layers:
            draft_rows = rows_to_keep(case, case.num_tokens - 1)
            every, chained = DraftHead(self._model, self._folder).guess(case, ids, hidden)
            draft_logits = every[draft_rows]
        return Recording(
            digest=digest,
            ids=ids,
            rows=rows,
            logits=logits[rows],
            std=float(logits.std()),
            margins=best[:, -1] - best[:, -2],
            draft_rows=draft_rows,
            draft_logits=draft_logits,
            chained=chained,
        )


def _routers(model: Any) -> Iterator[Any]:
    return (module for module in model.modules() if isinstance(module, modeling_qwen3_5_moe.Qwen3_5MoeTopKRouter))


def _gap(router_logits: torch.Tensor, top_k: int) -> float:
    probabilities = router_logits.softmax(-1).sort(dim=-1, descending=True).values
    return float((probabilities[:, top_k - 1] - probabilities[:, top_k]).min())


def _position_ids(case: Case) -> torch.Tensor:
    """[4 1 N]: the place in the text, then the rotary positions of the three axes."""
    axes = np.concatenate([np.arange(case.num_tokens)[:, None], case.positions()], axis=1)
    return torch.from_numpy(axes.T.copy())[:, None]


def _greedy(model: Any, case: Case) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    """Token ids [N], logits [N V] and hidden rows after the final norm [1 N D]."""
    positions, cache = _position_ids(case), DynamicCache(config=model.config)
    ids = torch.from_numpy(case.prompt().astype(np.int64))[None]
    hidden: list[torch.Tensor] = []
    fresh = ids
    while True:
        past = ids.shape[1] - fresh.shape[1]
        output = model.model(
            fresh, position_ids=positions[:, :, past : ids.shape[1]], past_key_values=cache, use_cache=True
        )
        hidden.append(output.last_hidden_state)
        if ids.shape[1] == case.prompt_len + GREEDY_TOKENS:
            break
        fresh = model.lm_head(hidden[-1][:, -1]).argmax(-1, keepdim=True)
        ids = torch.cat([ids, fresh], dim=1)
    rows = torch.cat(hidden, dim=1)
    return ids[0].numpy().astype(np.int32), model.lm_head(rows)[0].numpy(), rows


class DraftHead:
    """The draft head of a checkpoint over the trunk that transformers loaded."""

    def __init__(self, trunk: Any, folder: Path) -> None:
        dense = trunk.config.model_type == "qwen3_5_text"
        library, prefix = (modeling_qwen3_5, "Qwen3_5") if dense else (modeling_qwen3_5_moe, "Qwen3_5Moe")
        config = copy.deepcopy(trunk.config)
        config.layer_types, config.num_hidden_layers = ["full_attention"], 1
        width, norm = config.hidden_size, getattr(library, f"{prefix}RMSNorm")
        self._trunk, self._config = trunk, config
        self._parts = torch.nn.ModuleDict(
            {
                "pre_fc_norm_embedding": norm(width, eps=config.rms_norm_eps),
                "pre_fc_norm_hidden": norm(width, eps=config.rms_norm_eps),
                "fc": torch.nn.Linear(2 * width, width, bias=False),
                "layers": torch.nn.ModuleList([getattr(library, f"{prefix}DecoderLayer")(config, 0)]),
                "norm": norm(width, eps=config.rms_norm_eps),
            }
        )
        stored = load_file(folder / "model.safetensors")
        state = {name.removeprefix("mtp."): value.float() for name, value in stored.items() if name.startswith("mtp.")}
        self._parts.load_state_dict(state)

    def guess(self, case: Case, ids: np.ndarray, hidden: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Logits of every row but the last [N-1 V], and of one further guess [V]."""
        positions, cache = _position_ids(case), DynamicCache(config=self._config)
        following = torch.from_numpy(ids[None, 1:].astype(np.int64))
        rows = self._forward(following, hidden[:, :-1], positions[:, :, :-1], cache)
        logits = self._trunk.lm_head(rows)
        guessed = logits[:, -1].argmax(-1, keepdim=True)
        further = self._forward(guessed, rows[:, -1:], positions[:, :, -1:], cache)
        return logits[0].numpy(), self._trunk.lm_head(further)[0, 0].numpy()

    def _forward(self, ids: torch.Tensor, hidden: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
        parts, trunk = self._parts, self._trunk.model
        embedded = parts["pre_fc_norm_embedding"](trunk.embed_tokens(ids))
        x = parts["fc"](torch.cat([embedded, parts["pre_fc_norm_hidden"](hidden)], dim=-1))
        count, past = ids.shape[1], cache.get_seq_length()
        mask = torch.full((count, past + count), float("-inf")).triu(past + 1)[None, None]
        rotary = trunk.rotary_emb(x, positions[1:])
        x = parts["layers"][0](x, position_embeddings=rotary, attention_mask=mask, past_key_values=cache)
        return parts["norm"](x)
