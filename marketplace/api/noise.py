"""Noise cases: read by who sent the records, decided by somebody who is not told who that is."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.response import Response

from attribution import noise_cases as data
from attribution.models import NoiseCase

from .. import noise_cases
from .base import ApiView, PageQuery, body_of, endpoint, find, page, page_of
from .fields import Choice, Shown, Strict, Text


class NoiseText(Strict):
    text = Text(max_length=data.TEXT_CHARS_MAX)


class NoiseDecision(Strict):
    answer = Choice(choices=("uphold", "clear"), help_text="A first `uphold` may be appealed; nothing is taken before.")
    note = Text(max_length=data.TEXT_CHARS_MAX, help_text="Sent to the contributor, without your name.")


class NoiseShown(Shown):
    id = serializers.UUIDField()
    datanet = serializers.CharField(source="datanet.path")
    model_id = serializers.UUIDField()
    status = serializers.CharField(help_text="open, upheld, appealed, cleared, returned or lapsed.")
    figures = serializers.JSONField(help_text="What the rule found: docs/noise.md says what each means.")
    statement = serializers.CharField(help_text="The contributor's.")
    appeal = serializers.CharField(help_text="The contributor's.")
    opened_at = serializers.DateTimeField()
    due_at = serializers.DateTimeField(
        help_text="Not decided by then it lapses; upheld and not appealed by then it is final."
    )
    ended_at = serializers.DateTimeField(allow_null=True)


class NoiseCasesView(ApiView):
    """Cases about one's own records."""

    @endpoint(
        "noise_cases_list",
        "List the noise cases about your records.",
        query=PageQuery,
        answers=page_of(NoiseShown),
        reads=True,
    )
    def get(self, request):
        return page(request, data.of_contributor(request.user), NoiseShown, key="opened_at")


class NoiseToDecideView(ApiView):
    """Cases that wait for oneself."""

    @endpoint(
        "noise_cases_to_decide",
        "List the noise cases that you may decide on now, without the contributors' names.",
        query=PageQuery,
        answers=page_of(NoiseShown),
        reads=True,
    )
    def get(self, request):
        return page(request, data.to_decide(request.user), NoiseShown, key="opened_at")


class NoiseCaseView(ApiView):
    """One case."""

    @endpoint("noise_cases_read", "Read one noise case.", answers=NoiseShown, reads=True)
    def get(self, request, case_id):
        return _answer(request, _found(request, case_id))


class NoiseStatementView(ApiView):
    """The contributor's side."""

    @endpoint(
        "noise_cases_state",
        "Answer a noise case about your records, once, before it is decided.",
        body=NoiseText,
        answers=NoiseShown,
    )
    def post(self, request, case_id):
        found, given = _found(request, case_id), body_of(request, NoiseText)
        return _answer(request, noise_cases.state(found, by=request.user, **given))


class NoiseDecisionView(ApiView):
    """A decision, or the answer to an appeal."""

    @endpoint(
        "noise_cases_decide",
        "Say whether the records of a case are noise, and why. For curators who approved none of them, and administrators.",
        body=NoiseDecision,
        answers=NoiseShown,
    )
    def post(self, request, case_id):
        found, given = _found(request, case_id), body_of(request, NoiseDecision)
        decided = noise_cases.decide(found, by=request.user, uphold=given["answer"] == "uphold", note=given["note"])
        return _answer(request, decided)


class NoiseAppealView(ApiView):
    """A second look."""

    @endpoint(
        "noise_cases_appeal",
        "Appeal against a decision that your records are noise: somebody else looks again.",
        body=NoiseText,
        answers=NoiseShown,
    )
    def post(self, request, case_id):
        found, given = _found(request, case_id), body_of(request, NoiseText)
        return _answer(request, noise_cases.appeal(found, by=request.user, **given))


def _found(request, case_id) -> NoiseCase:
    return find(data.seen_by(request.user), pk=case_id)


def _answer(request, case: NoiseCase) -> Response:
    return Response(NoiseShown(case, context={"user": request.user}).data)
