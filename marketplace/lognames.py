"""What the ids in the public log are called. The log itself says no name: it is somebody's, and could never be taken back."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import IntegerField, Q, QuerySet, Value

from datanets.models import Datanet

from . import querysets
from .models import ListedModel, ModelVersion


def of(ids: Collection[str], viewer: querysets.Viewer) -> dict[str, str]:
    """Id -> path of the models, their versions and the Datanets among these; of a closed Datanet for its members only."""
    if not ids:
        return {}
    unnumbered = Value(0, output_field=IntegerField())
    datanets = Datanet.objects.visible_to(viewer).filter(pk__in=ids)
    versions = ModelVersion.objects.filter(pk__in=ids)
    found = (  # one query: it stands on pages that ask much else
        ListedModel.objects.filter(pk__in=ids)
        .values_list("pk", "owner__username", "slug", unnumbered)
        .union(
            versions.values_list("pk", "model__owner__username", "model__slug", "number"),
            datanets.values_list("pk", "owner__username", "slug", unnumbered),
        )
    )
    return {str(pk): f"{owner}/{slug}" + (f"@v{number}" if number else "") for pk, owner, slug, number in found}


def called(text: str, viewer: querysets.Viewer) -> list[str]:
    """Ids of the models and Datanets whose path, `owner/name`, starts with these words, or whose name does."""
    owner, separator, slug = text.partition("/")
    named = (
        Q(owner__username__iexact=owner, slug__istartswith=slug) if separator else Q(owner__username__istartswith=text)
    )
    named |= Q(slug__istartswith=text)
    rows: tuple[QuerySet, ...] = (ListedModel.objects.filter(named), Datanet.objects.visible_to(viewer).filter(named))
    return [str(pk) for found in rows for pk in found.values_list("pk", flat=True)[:50]]
