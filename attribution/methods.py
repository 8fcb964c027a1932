"""Every method of attribution by the code that traces and artifacts store: what it says, from where, and what it is not.

The one list that pages and the API read. A new engine brings its METHOD here; a changed method gets a new number, and the
old one stays as long as something stored names it.
"""

from __future__ import annotations

from typing import NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from attribution.engines import linear, neighbours, retrieval, spans

NONE = "none/1"
ABSTAINED = "abstained/1"
# How access and training money is split. Never equally in silence: these say so wherever the money shows.
VALIDATION_SHARES = "validation shares/1"
EQUAL_TOO_FEW = "equal shares, too few records/1"
EQUAL_NO_MEASURE = "equal shares, no measure/1"
EQUAL_BELOW_FLOOR = "equal shares, below the floor/1"  # of calls, too: the score card said so when the epoch closed
EQUAL = (EQUAL_TOO_FEW, EQUAL_NO_MEASURE, EQUAL_BELOW_FLOOR)


class Method(NamedTuple):
    """One method, for people. `formula` is the same in every language."""

    name: Promise
    statement: Promise
    formula: str
    source: Promise
    is_not: Promise


_EQUAL_IS_NOT = _("Not a measurement: nobody is paid more for a better record.")

METHODS: dict[str, Method] = {
    linear.METHOD: Method(
        _("Midpoint influence"),
        _("How much the margin of the answer changes per unit of each record’s weight."),
        "τᵢ = −∇f′ H(w/2)⁻¹ ∇ℓᵢ",
        _("Influence functions (Koh and Liang 2017, arXiv:1703.04730), at half of every weight."),
        _("Not a new training without the record: it predicts one, and how well is measured in docs/benchmarks.md."),
    ),
    neighbours.METHOD: Method(
        _("Shapley values of the vote"),
        _("Exact Shapley values of the served vote over all records."),
        "v(S) = 1/k · #{i ∈ k nearest of S : yᵢ = ŷ}",
        _("Jia et al. 2019, arXiv:1908.08619, theorem 1."),
        _("Not a judgement of what is true: who stands near and votes alike is paid, also where the answer is wrong."),
    ),
    retrieval.METHOD: Method(
        _("Shapley values of the context"),
        _("Exact Shapley values over the retrieved records of the answer's log-probability."),
        "v(S) = log p(answer | passages of S)",
        _("Shapley 1953, over every subset of the records that stood in the context."),
        _("Not what the model had learned before: what it answers without the records is nobody’s."),
    ),
    retrieval.PROXY_METHOD: Method(
        _("Overlap of words"),
        _("How many words in a row the answer shares with each record, where the server gives no probabilities."),
        "spans of 3 words + 0.3 · BM25",
        _("Robertson and Zaragoza 2009 for BM25; the sum is ours."),
        _("Not a measurement of influence: hardly better than equal parts, so half at most is paid by it."),
    ),
    spans.METHOD: Method(
        _("Words in a row"),
        _(
            "The longest runs of at least six words that an answer and a record have in common. Provenance, not causation."
        ),
        "sᵢ = Σ −log p(word), over the runs whose earliest leader is i",
        _("After infini-gram (Liu et al. 2024, arXiv:2401.17377) and OLMoTrace (Liu et al. 2025, arXiv:2504.07096)."),
        _("Not a finding that the model learned from the record: it shows where the same words stand."),
    ),
    NONE: Method(
        _("No method"),
        _("No tested method yet: the data's part goes to the public unattributed account."),
        "",
        _("There is none."),
        _("Not a finding that no record mattered."),
    ),
    ABSTAINED: Method(
        _("No answer"),
        _(
            "The model abstained, so there is nothing to attribute: the data's part goes to the public unattributed account."
        ),
        "",
        _("What the caller required of the data behind an answer."),
        _("Not a finding about any record: none was used."),
    ),
    VALIDATION_SHARES: Method(
        _("Shares by held-out rows"),
        _("Passes and training runs pay each record by what it added on held-out rows when the version was made."),
        "wᵢ = max(mean τᵢ, 0); 0 if mean τᵢ + 2 se < 0",
        _("The engine’s own scores of five folds, each judged by rows that its model had not seen."),
        _("Not what the record did in calls: those are paid by their own scores."),
    ),
    EQUAL_TOO_FEW: Method(
        _("Equal shares: too few records"),
        _(
            "Passes and training runs pay every record that leads the same: with fewer than 50, held-out rows say too little."
        ),
        "wᵢ = 1",
        _("A rule of this site, not a method."),
        _EQUAL_IS_NOT,
    ),
    EQUAL_NO_MEASURE: Method(
        _("Equal shares: no measure"),
        _("Passes and training runs pay every record that leads the same: nothing was measured on held-out rows."),
        "wᵢ = 1",
        _("A rule of this site, not a method."),
        _EQUAL_IS_NOT,
    ),
    EQUAL_BELOW_FLOOR: Method(
        _("Equal shares: below the floor"),
        _(
            "Calls, passes and training runs pay every record that leads the same: by the model’s score card its scores "
            "predict too little."
        ),
        "wᵢ = 1",
        _("A rule of this site, not a method."),
        _EQUAL_IS_NOT,
    ),
}


class MethodShown(NamedTuple):
    """A method in the reader's language."""

    code: str
    name: str
    statement: str
    formula: str
    source: str
    is_not: str

    @property
    def is_equal(self) -> bool:
        return self.code in EQUAL


def shown(code: str) -> MethodShown:
    """What this code means. One that nobody listed is shown as it is stored: it may come from a newer release."""
    if code not in METHODS:
        return MethodShown(code, code, "", "", "", "")
    return MethodShown(code, *map(str, METHODS[code]))
