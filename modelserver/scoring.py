"""Log-probability of one given answer under many contexts that begin alike.

The contexts are visited in sorted order, so each one starts with the longest part it shares with the one before: every
distinct prefix is computed exactly once, as in a trie walked depth first, and only one path is kept in memory.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from modelserver import llama

# One step of work, about a third of a second: how long a paid call may have to share the processor.
STEP_TOKENS = 128
# Rows of logits at a time: 49,152 float32 each.
_LOGIT_ROWS = 64


def score_contexts(
    model: llama.Llama, contexts: list[list[int]], answer: list[int], *, before_step: Callable[[], None]
) -> list[float]:
    """Score the answer after each context.

    Args:
        contexts: Prompt tokens, each list at least one long, in any order.
        answer: Tokens of the answer, at least one.
        before_step: Called before every step of at most STEP_TOKENS tokens. It may block (somebody else's turn), or
            raise to give up.

    Returns:
        The sum of the answer's token log-probabilities in nats, rounded to 0.01, one per context in their order.
        Rounding hides the last bits of float32, which differ between processors.
    """
    cache = llama.new_cache(model, max(map(len, contexts)) + len(answer))
    scores = [0.0] * len(contexts)
    cached: list[int] = []
    for index in sorted(range(len(contexts)), key=lambda i: contexts[i]):
        context = contexts[index]
        # The last token of the context is always run: its hidden state predicts the answer's first token.
        shared = min(_shared_length(cached, context), len(context) - 1)
        cached = context + answer[:-1]
        hidden = []
        for start in range(shared, len(cached), STEP_TOKENS):
            before_step()
            end = min(start + STEP_TOKENS, len(cached))
            states = llama.extend(model, cached[start:end], cache, start=start)
            hidden.append(states[max(0, len(context) - 1 - start) :])
        scores[index] = _total(model, np.concatenate(hidden), answer, before_step)
    return scores


def distinct_tokens(contexts: list[list[int]], answer: list[int]) -> int:
    """How many tokens `score_contexts` will compute."""
    total = 0
    cached: list[int] = []
    for context in sorted(contexts):
        total += len(context) + len(answer) - 1 - min(_shared_length(cached, context), len(context) - 1)
        cached = context + answer[:-1]
    return total


def _total(model: llama.Llama, hidden: llama.Floats, answer: list[int], before_step: Callable[[], None]) -> float:
    total = 0.0
    for row in range(0, len(answer), _LOGIT_ROWS):
        if row:
            before_step()
        rows = slice(row, row + _LOGIT_ROWS)
        total += float(llama.log_probabilities(model, hidden[rows], answer[rows]).sum())
    return round(total, 2)


def _shared_length(left: list[int], right: list[int]) -> int:
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))
