"""Constraints on replies: grammars over bytes, compiled and followed by ``llguidance``.

The library walks the vocabulary as a tree of bytes and says which tokens a grammar allows next. What a grammar may cost
is bounded when it is compiled and at every token; one that exceeds a bound ends as an error, never as a wrong answer.
"""

from __future__ import annotations

import contextlib
import functools
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import llguidance
import numpy as np
from llguidance.gbnf_to_lark import GbnfToLarkError, gbnf_to_lark

from loqal.chat.constraints.grammar import MAX_GRAMMAR_CHARS, json_rule
from loqal.chat.constraints.json_watch import ReplyWatch, TokenStarts
from loqal.chat.constraints.reply_automaton import Mask
from loqal.chat.tokens.tokenizer import Tokenizer
from loqal.errors import RequestError

_EBNF_RULE = re.compile(r"(?m)^[ \t]*[\w.-]+[ \t]*::=")
_LARK_START = re.compile(r"(?m)^[ \t]*(start[ \t]*:[^:]|%llguidance)")
_MOST_COMPILED = 16  # grammars that are kept for requests with the same form
_LIMITS = llguidance.LLParserLimits(
    initial_lexer_fuel=1_000_000,  # about 20 ms
    step_lexer_fuel=50_000,  # about 4 ms
    step_max_items=20_000,
    max_items_in_row=500,
    max_lexer_states=30_000,  # about 50 MB
    max_grammar_size=200_000,
    verbose_errors=False,
)


class GrammarMatcher:
    """Follows one reply through one grammar, see ``automaton.Matcher``.

    Between ``prepare`` and the next ``mask`` the library's matcher belongs to the worker.
    """

    def __init__(
        self,
        inner: llguidance.LLMatcher,
        num_words: int,
        worker: Executor,
        encode: Callable[[str], list[int]],
        watch: ReplyWatch | None = None,
    ) -> None:
        self._inner, self._num_words, self._worker, self._encode = inner, num_words, worker, encode
        self._watch = watch
        self._coming: Future[tuple[Mask, list[int]]] | None = None

    def copy(self) -> GrammarMatcher:
        """See Matcher."""
        watch = None if self._watch is None else self._watch.copy()
        return GrammarMatcher(self._inner.deep_copy(), self._num_words, self._worker, self._encode, watch)

    def mask(self) -> Mask:
        """See Matcher."""
        coming, self._coming = self._coming, None
        mask = self._find() if coming is None else coming.result()[0]
        if self._inner.is_error() or not mask.any():
            raise self._failed()
        if self._watch is not None:
            self._watch.restrict(mask)
        return mask

    def prepare(self) -> None:
        """See Matcher."""
        if self._coming is None:
            with contextlib.suppress(RuntimeError):  # the interpreter is about to end
                self._coming = self._worker.submit(self._find_more)

    def draft_hint(self) -> Sequence[int]:
        """See Matcher. Waits for nobody, since it decides how fast an answer comes and nothing else."""
        return self._coming.result()[1] if self._coming is not None and self._coming.done() else ()

    def push(self, token_id: int) -> None:
        """See Matcher."""
        if self._coming is not None:
            self.mask()
        if not self._inner.consume_token(token_id):
            raise self._failed()
        if self._watch is not None:
            self._watch.push(token_id)

    def accepts(self, token_ids: Sequence[int]) -> bool:
        """See Matcher."""
        if self._watch is not None:
            for token_id in token_ids:
                self._watch.push(token_id)
        return self._inner.try_consume_tokens(list(token_ids)) == len(token_ids)

    def _find(self) -> Mask:
        mask: Mask = np.zeros(self._num_words, np.uint32)
        self._inner.unsafe_compute_mask_ptr(mask.ctypes.data, mask.nbytes)
        return mask

    def _find_more(self) -> tuple[Mask, list[int]]:
        mask = self._find()
        return mask, self._encode(self._inner.compute_ff_bytes().decode(errors="ignore"))

    def _failed(self) -> RequestError:
        return RequestError(
            "The form that the answer must have became too complex to follow.",
            _first_line(self._inner.get_error()) or "No token can continue the answer.",
            "Simplify the schema, the expression or the grammar.",
        )


class Constraints:
    """Compiles grammars for the vocabulary of one model, whose tree is made when it is first needed."""

    def __init__(self, tokenizer: Tokenizer, end_ids: frozenset[int]) -> None:
        self._tokenizer, self._end_ids = tokenizer, sorted(end_ids)
        self._lock = threading.Lock()
        self._vocabulary: llguidance.LLTokenizer | None = None
        self._compiled: dict[str, llguidance.LLMatcher] = {}  # by its grammar, the newest last
        self._starts = TokenStarts(tokenizer)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="loqal-masks")

    def watch(self, json_arguments: Mapping[str, frozenset[str]], *, is_json: bool, call_open: int) -> ReplyWatch:
        """A watch at the beginning of a reply, see ``json_watch``."""
        return ReplyWatch(self._starts, json_arguments, is_json=is_json, call_open=call_open)

    def compile(self, grammar: str, where: str, watch: ReplyWatch | None = None) -> GrammarMatcher:
        """A matcher at the beginning of a grammar, which is Lark's text or llguidance's JSON. Raises RequestError.

        Args:
            where: how the caller knows it.
            watch: takes further tokens out of the masks.
        """
        if len(grammar) > MAX_GRAMMAR_CHARS:
            raise _refused(where, f"It has {len(grammar):,} characters; at most {MAX_GRAMMAR_CHARS:,} are read.")
        inner = self._compiled.get(grammar)
        if inner is None:
            inner = llguidance.LLMatcher(self._tree(), grammar, log_level=0, limits=_LIMITS)
            if not inner.is_error():
                inner.compute_bitmask()  # what is too complex at once is found out here, not between others' tokens
            if inner.is_error():
                raise _refused(where, _first_line(inner.get_error()))
        with self._lock:
            self._compiled.pop(grammar, None)
            self._compiled[grammar] = inner
            while len(self._compiled) > _MOST_COMPILED:
                self._compiled.pop(next(iter(self._compiled)))
            inner = inner.deep_copy()
        num_words = -(-self._tokenizer.vocab_len // 32)
        return GrammarMatcher(inner, num_words, self._worker, self._tokenizer.encode_text, watch)

    def as_lark(self, text: str) -> str:
        """A grammar in Lark's notation, see ``as_lark``. Raises RequestError."""
        return as_lark(text)

    def is_valid(self, grammar: str) -> bool:
        """Whether a grammar would compile."""
        return not _fault(grammar)

    def schema_fault(self, schema: Any) -> str:
        """What is wrong with a JSON schema; an empty text when nothing is."""
        return _fault(f"start: {json_rule(schema)}")

    def _tree(self) -> llguidance.LLTokenizer:
        with self._lock:
            if self._vocabulary is None:
                wrapper = llguidance.TokenizerWrapper(_Vocabulary(self._tokenizer, self._end_ids[0]))
                self._vocabulary = llguidance.LLTokenizer(wrapper, self._tokenizer.vocab_len, self._end_ids)
            return self._vocabulary


class _Vocabulary:
    """What ``llguidance`` wants to know of a tokenizer."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, end_id: int) -> None:
        self._tokenizer, self.eos_token_id = tokenizer, end_id
        self.tokens = tokenizer.all_bytes()
        self.special_token_ids = sorted(tokenizer.special_ids.values())

    def __call__(self, text: bytes) -> list[int]:
        return self._tokenizer.encode_text(text.decode())


@functools.lru_cache(maxsize=512)
def _fault(grammar: str) -> str:
    text = llguidance.LLMatcher.grammar_from_lark(grammar)
    is_error, messages = llguidance.LLMatcher.validate_grammar_with_warnings(text, limits=_LIMITS)
    return (_first_line(messages[0]) or "It cannot be compiled.") if is_error else ""


def as_lark(text: str) -> str:
    """A grammar in Lark's notation; GBNF and EBNF, which define rules by ``::=``, are translated.

    Raises:
        RequestError: it is not valid in its notation.
    """
    if not _EBNF_RULE.search(text) or _LARK_START.search(text):
        return text
    if len(text) > MAX_GRAMMAR_CHARS:
        why = f"It has {len(text):,} characters; at most {MAX_GRAMMAR_CHARS:,} are read."
        raise RequestError("The grammar cannot be followed.", why, "Shorten the grammar.")
    try:
        return gbnf_to_lark(text)
    except (GbnfToLarkError, RecursionError, ValueError, KeyError, AssertionError) as error:
        line = re.search(r"line (\d+)", str(error))
        where = f" in line {line[1]}" if line else ""
        raise RequestError(
            "The grammar cannot be followed.",
            f"It is not valid{where}: rules are written as in GBNF, and the first one is named root.",
            "Correct the grammar, or write it in Lark's notation.",
        ) from None


def _first_line(message: str) -> str:
    """A message of the library without where in its own texts it was met."""
    line = message.strip().split("\n")[0]
    return line.split("failed to compile JSON schema: ")[-1][:300]


def _refused(where: str, why: str) -> RequestError:
    return RequestError(f"{where} cannot be followed.", why, "Change it, or leave it out.")
