"""What the ids in the public log are called. The log itself says no name: it is somebody's, and could never be taken back."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import Q, QuerySet

from datanets.models import Datanet

from .models import ListedModel, ModelVersion
from .querysets import Viewer


def of(ids: Collection[str], viewer: Viewer) -> dict[str, str]:
    """Id -> path of the models, their versions and the Datanets among these; of a closed Datanet for its members only."""
    if not ids:
        return {}
    found = [
        ListedModel.objects.filter(pk__in=ids).select_related("owner"),
        ModelVersion.objects.filter(pk__in=ids).select_related("model__owner"),
        Datanet.objects.visible_to(viewer).filter(pk__in=ids).select_related("owner"),
    ]
    return {str(one.pk): one.path for rows in found for one in rows}


def called(text: str, viewer: Viewer) -> list[str]:
    """Ids of the models and Datanets whose path, `owner/name`, starts with these words, or whose name does."""
    owner, separator, slug = text.partition("/")
    named = (
        Q(owner__username__iexact=owner, slug__istartswith=slug) if separator else Q(owner__username__istartswith=text)
    )
    named |= Q(slug__istartswith=text)
    rows: tuple[QuerySet, ...] = (ListedModel.objects.filter(named), Datanet.objects.visible_to(viewer).filter(named))
    return [str(pk) for found in rows for pk in found.values_list("pk", flat=True)[:50]]
