"""What a noise report says, in a sentence: whether a model's new rows were judged, and if not, why not."""

from __future__ import annotations

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from attribution.models import NoiseReport

Reason = NoiseReport.Reason

WHY_NOT: dict[Reason, Promise] = {
    Reason.NO_CALLS: gettext_lazy("no call was settled in it"),
    Reason.ENGINE: gettext_lazy("the rule has a meaning for linear models of classes only"),
    Reason.FEW_INCUMBENTS: gettext_lazy("only %(found)s earlier records to compare with, %(needed)s are needed"),
    Reason.FEW_VALIDATION: gettext_lazy("only %(found)s records to judge by, %(needed)s are needed"),
    Reason.TOO_LARGE: gettext_lazy("the model has %(found)s parameters, and the rule can judge %(needed)s"),
    Reason.NOTHING_NEW: gettext_lazy("no record came in since the first versions, or all were judged before"),
    Reason.FEW_ROWS: gettext_lazy("nobody sent %(needed)s new records or more"),
    Reason.NO_CLAIM: gettext_lazy("no new record has earned anything yet"),
    Reason.NOT_CONVERGED: gettext_lazy("a fit did not converge"),
}


def sentence_of(report: NoiseReport | None) -> str:
    """One line for a model's page; empty where no epoch was settled yet."""
    if report is None:
        return ""
    epoch = report.epoch.number
    if report.outcome == NoiseReport.Outcome.NOT_JUDGED:
        why = str(WHY_NOT[Reason(report.reason)]) % {"found": report.found, "needed": report.needed}
        return _("Noise: not judged in epoch %(epoch)s: %(why)s.") % {"epoch": epoch, "why": why}
    if report.outcome == NoiseReport.Outcome.NO_CASE:
        return _("Noise: judged in epoch %(epoch)s: no case.") % {"epoch": epoch}
    cases = report.cases.count()
    return ngettext(
        "Noise: judged in epoch %(epoch)s: %(n)s case, which people decide.",
        "Noise: judged in epoch %(epoch)s: %(n)s cases, which people decide.",
        cases,
    ) % {"epoch": epoch, "n": cases}


def newest_of(model_id) -> NoiseReport | None:
    """What was said last of a model: of the epoch judged last, a case before none, and none before nothing said."""
    found = NoiseReport.objects.filter(model_id=model_id).select_related("epoch")
    return found.order_by("-epoch__number", "outcome").first()
