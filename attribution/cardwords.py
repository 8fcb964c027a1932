"""What the figures of a score card say, and why there may be none: for pages and the API, the one list of these words."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from attribution import cards
from attribution.models import Artifact, ScoreCard

LABELS: dict[str, tuple[Promise, Promise]] = {
    "lds_half": (
        _("Predicts retraining on half the records (LDS)"),
        _("Rank correlation of summed scores with what models answer that are really trained on random halves."),
    ),
    "lds_most": (
        _("Predicts retraining on nine tenths (LDS)"),
        _("The same, with nine of ten records in each training."),
    ),
    "lds_contributors": (
        _("Predicts retraining without contributors (LDS)"),
        _("The same, by whole contributors: half of them in each training, or every choice where they are few."),
    ),
    "lds_context": (
        _("Predicts answers without documents (LDS)"),
        _("Rank correlation of scores with the answer’s probability under every subset of the quoted records."),
    ),
    "leave_one_out": (
        _("Predicts the loss of one record"),
        _("Correlation of a record’s score with what an answer really loses when it alone is removed."),
    ),
    "label_noise": (
        _("Finds planted wrong labels (AUC)"),
        _("A tenth of the labels is made wrong, and records are ranked as gating ranks them; .5 is chance."),
    ),
    "canaries": (
        _("Finds planted facts"),
        _("Invented facts are planted and repeated: how many of those used are among the attributed records."),
    ),
    "paraphrases": (
        _("Finds planted facts in other words"),
        _("The same, where the answer says the fact in other words."),
    ),
    "copy_gain": (
        _("Pay when records are copied"),
        _(
            "What a contributor earns with copies of their records over what they earn without; exactly 1 or copying pays."
        ),
    ),
}
REASONS: dict[str, Promise] = {
    "not_trained_here": _("Does not apply: this site cannot train this model without a record."),
    "no_context": _("Does not apply: no documents stand in front of its answers."),
    "no_labels": _("Does not apply: it learns from no labels."),
    "answers_no_words": _("Does not apply: it does not answer in words."),
    "not_texts": _("Does not apply: its records are not texts."),
    "too_few_records": _("Cannot be measured: fewer than 50 records lead."),
    "few_contributors": _("Cannot be measured: fewer than four contributors."),
    "nothing_changes": _("Cannot be measured: no answer changed."),
    "none_used": _("Cannot be measured: no answer used a planted fact."),
}
FAILED = _("Could not be measured: its part failed three times.")


class Row(NamedTuple):
    """One figure for people. `value` None: there is none, and `reason` says why."""

    name: str
    label: str
    about: str
    value: float | None
    standard_error: float | None
    floor: float | None
    is_below: bool
    reason: str
    figure: dict[str, Any]
    ended_by_cap: bool


class CardShown(NamedTuple):
    """How a version's card stands: `done` in force (or none yet), `running` being measured (percent)."""

    done: ScoreCard | None
    running: ScoreCard | None
    percent: int
    rows: list[Row]

    @property
    def artifact(self) -> Artifact | None:
        """What is measured; None where nobody asked for a card."""
        card = self.done or self.running
        return card.artifact if card is not None else None

    @property
    def status(self) -> str:
        if self.done is not None:
            return "measured"
        return "being_measured" if self.running is not None else "not_yet_measured"

    @property
    def cpu_s(self) -> float:
        return self.done.cpu_ms / 1000 if self.done is not None else 0.0

    @property
    def is_below(self) -> bool:
        return self.done is not None and bool(self.done.below)

    def as_json(self) -> dict[str, Any]:
        """What the API says of it; /v1/models says the same (marketplace/sql/catalogue.sql)."""
        told: dict[str, Any] = {"status": self.status, "pays": "equally" if self.is_below else "by_score"}
        if self.running is not None:
            told["progress_percent"] = self.percent
        if self.done is not None:
            told |= {
                "number": self.done.number,
                "measured_at": self.done.done_at,
                "seed": self.done.seed,
                "figures": self.done.figures,
                "below_floor": self.done.below,
                "cpu_ms": self.done.cpu_ms,
            }
        return told


def of_version(model_version_id: UUID) -> CardShown:
    """The card of a version as it stands, in the reader's language."""
    done, running, percent = cards.newest(model_version_id)
    figures = done.figures if done is not None else {}
    return CardShown(
        done,
        running,
        percent,
        [_row(name, figures[name], done) for name in LABELS if name in figures],
    )


def _row(name: str, figure: dict[str, Any], card: ScoreCard | None) -> Row:
    label, about = LABELS[name]
    reason: str | Promise = ""
    if "value" not in figure:
        reason = FAILED if figure.get("failed") else REASONS[figure["not_applicable"]]
    return Row(
        name=name,
        label=str(label),
        about=str(about),
        value=figure.get("value"),
        standard_error=figure.get("standard_error"),
        floor=figure.get("floor"),
        is_below=card is not None and name in card.below,
        reason=str(reason),
        figure=figure,
        ended_by_cap=bool(figure.get("capped"))
        and card is not None
        and figure["standard_error"] > card.settings["standard_error_max"],
    )
