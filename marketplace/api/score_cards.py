"""Score cards: how well the scores of a model version were measured to be."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.response import Response

from attribution import cardwords, explain

from .. import measuring
from ..models import ModelVersion
from .base import ReadableView, endpoint, find
from .fields import Anything, Shown
from .models import visible


class ScoreCardShown(Shown):
    """A figure without a value names why; `pays` says whether money follows the scores, or is split equally."""

    status = serializers.CharField(help_text="measured, being_measured or not_yet_measured.")
    pays = serializers.CharField(help_text="by_score or equally.")
    progress_percent = serializers.IntegerField(allow_null=True, help_text="While it is being measured.")
    number = serializers.IntegerField(
        allow_null=True, help_text="Which measurement of this version it is; null: none yet."
    )
    measured_at = serializers.DateTimeField(allow_null=True)
    seed = serializers.IntegerField(allow_null=True)
    figures = Anything(help_text="By name: value, standard_error, floor, or not_applicable, failed. Empty: none yet.")
    below_floor = serializers.ListField(child=serializers.CharField(), help_text="Names of figures.")
    cpu_ms = serializers.IntegerField(allow_null=True, help_text="What measuring took.")
    coverage_millionths = serializers.IntegerField(
        allow_null=True, help_text="Of the model's settled money: what reached people; null before any is settled."
    )


class ScoreCardView(ReadableView):
    """How well a version's scores were measured to be."""

    @endpoint("score_cards_read", "Read the score card of a version.", answers=ScoreCardShown, reads=True)
    def get(self, request, owner, slug, number):
        return Response(_score_card(_numbered(request, owner, slug, number)))

    @endpoint(
        "score_cards_measure",
        "Have a version measured again. For the owner and admins.",
        answers=ScoreCardShown,
        status=202,
    )
    def post(self, request, owner, slug, number):
        version = _numbered(request, owner, slug, number)
        measuring.measure_again(version, by=request.user)
        return Response(_score_card(version), status=202)


def _numbered(request, owner: str, slug: str, number: int) -> ModelVersion:
    versions = ModelVersion.objects.filter(model=visible(request, owner, slug)).select_related("model__owner")
    return find(versions, number=number)


def _score_card(version: ModelVersion) -> dict:
    coverage = explain.model_totals(version.model_id)["coverage_millionths"]
    nothing = dict.fromkeys(("progress_percent", "number", "measured_at", "seed", "cpu_ms"))
    told = nothing | {"figures": {}, "below_floor": []} | cardwords.of_version(version.pk).as_json()
    return ScoreCardShown(told | {"coverage_millionths": coverage}).data
