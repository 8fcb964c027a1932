"""API keys of the gateway. A secret is shown once, and only a person who has just signed in makes one."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.response import Response

from .. import keys, listings, sharing
from ..models import CALLS_AT_ONCE_MAX, CONTENT_DAYS_MAX, ORIGIN_CHARS_MAX, SCOPES
from .base import ApiView, PageQuery, body_of, endpoint, find, page, page_of, require_fresh_session
from .fields import Amount, Id, Moment, Shown, Strict, Text, Whole, YesNo, money


class KeyShown(Shown):
    id = serializers.UUIDField()
    name = serializers.CharField()
    prefix = serializers.CharField()
    wallet = serializers.UUIDField(
        source="owner.shared_wallet.pk",
        default=None,
        allow_null=True,
        help_text="The shared wallet that it spends from; null: yours.",
    )
    made_by = serializers.CharField(source="made_by.username")
    spend_cap_nano, spend_cap_open = money("spend_cap_nano", nullable=True)
    spend_cap_day_nano, spend_cap_day_open = money("spend_cap_day_nano", nullable=True)
    spend_cap_month_nano, spend_cap_month_open = money("spend_cap_month_nano", nullable=True)
    requests_per_minute = serializers.IntegerField(allow_null=True)
    tokens_per_minute = serializers.IntegerField(allow_null=True)
    calls_at_once = serializers.IntegerField()
    content_days = serializers.IntegerField(
        help_text="For how many days what its calls say is kept, sealed; 0: until it is attributed."
    )
    is_test = serializers.BooleanField(help_text="It spends test money, and no model answers it.")
    scopes = serializers.ListField(
        child=serializers.ChoiceField(SCOPES), help_text="call: models; read: calls, credits, receipts."
    )
    models = serializers.SerializerMethodField(help_text="Only these; empty: all.")
    allowed_origins = serializers.ListField(
        child=serializers.CharField(), help_text="Of pages that may call with it from a browser."
    )
    expires_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True)
    replaced_until = serializers.DateTimeField(
        allow_null=True, help_text="Another key took its place; it works until then. Both share their limits."
    )
    revoked_at = serializers.DateTimeField(allow_null=True)

    def get_models(self, key) -> list[str]:
        return [model.path for model in key.allowed_models.all()]


class NewKeyShown(KeyShown):
    secret = serializers.CharField(help_text="Shown this once.")


class NewKey(Strict):
    name = Text(max_length=80)
    wallet = Id(required=False, help_text="A shared wallet that you may spend from; yours by default.")
    spend_cap_nano = Amount(required=False)
    spend_cap_day_nano = Amount(required=False)
    spend_cap_month_nano = Amount(required=False)
    requests_per_minute = Whole(min_value=1, required=False)
    tokens_per_minute = Whole(min_value=1, required=False)
    calls_at_once = Whole(min_value=1, max_value=CALLS_AT_ONCE_MAX, required=False)
    content_days = Whole(min_value=0, max_value=CONTENT_DAYS_MAX, required=False)
    is_test = YesNo(required=False, help_text="Spend test money. This cannot be changed later.")
    expires_at = Moment(required=False)
    scopes = serializers.ListField(child=serializers.ChoiceField(SCOPES), required=False, min_length=1, max_length=2)
    models = serializers.ListField(child=Text(max_length=101), required=False, max_length=50)
    allowed_origins = serializers.ListField(
        child=Text(max_length=ORIGIN_CHARS_MAX), required=False, max_length=keys.ORIGINS_MAX
    )


class KeyChange(Strict):
    """What is left out stays; null: no limit, no end."""

    name = Text(max_length=80, required=False)
    spend_cap_nano = Amount(required=False, allow_null=True)
    spend_cap_day_nano = Amount(required=False, allow_null=True)
    spend_cap_month_nano = Amount(required=False, allow_null=True)
    requests_per_minute = Whole(min_value=1, required=False, allow_null=True)
    tokens_per_minute = Whole(min_value=1, required=False, allow_null=True)
    calls_at_once = Whole(min_value=1, max_value=CALLS_AT_ONCE_MAX, required=False)
    content_days = Whole(min_value=0, max_value=CONTENT_DAYS_MAX, required=False)
    expires_at = Moment(required=False, allow_null=True)
    scopes = serializers.ListField(child=serializers.ChoiceField(SCOPES), required=False, min_length=1, max_length=2)
    models = serializers.ListField(child=Text(max_length=101), required=False, max_length=50)
    allowed_origins = serializers.ListField(
        child=Text(max_length=ORIGIN_CHARS_MAX), required=False, max_length=keys.ORIGINS_MAX
    )


class Replacement(Strict):
    overlap_s = Whole(
        max_value=max(keys.OVERLAPS_S),
        required=False,
        help_text="For how long the old key still works: 0 (it stops at once), 3600, 86400 or 604800.",
    )


class KeysView(ApiView):
    """One's keys."""

    @endpoint(
        "keys_list",
        "List your API keys, without their secrets.",
        query=PageQuery,
        answers=page_of(KeyShown),
        reads=True,
    )
    def get(self, request):
        return page(request, _mine(request), KeyShown)

    @endpoint(
        "keys_create",
        "Make a key; its secret is shown once. Needs a fresh session.",
        body=NewKey,
        answers=NewKeyShown,
        status=201,
    )
    def post(self, request):
        require_fresh_session(request)
        given = body_of(request, NewKey)
        chosen = _models(listings.visible_to(request.user), given.pop("models", []))
        owner = request.user
        if "wallet" in given:
            owner = find(sharing.of(request.user), wallet=given.pop("wallet")).wallet.account
        key, secret = keys.create(owner=owner, made_by=request.user, models=chosen, **given)
        key.secret = secret
        return Response(NewKeyShown(key).data, status=201)


class KeyView(ApiView):
    """One key."""

    @endpoint(
        "keys_change",
        "Give a key other limits or rights; calls know within a second. Needs a fresh session.",
        body=KeyChange,
        answers=KeyShown,
    )
    def patch(self, request, key_id):
        require_fresh_session(request)
        key = find(_mine(request), pk=key_id)
        given = body_of(request, KeyChange)
        kept = {name: getattr(key, name) for name in _CHANGED}
        models = key.allowed_models.all()
        if "models" in given:
            models = _models(listings.visible_to(request.user) | models, given.pop("models"))
        keys.change(key, by=request.user, models=models, **kept | given)
        return Response(KeyShown(find(_mine(request), pk=key_id)).data)

    @endpoint("keys_revoke", "Stop a key: calls with it are refused within a second.", status=204)
    def delete(self, request, key_id):
        keys.revoke(find(_mine(request), pk=key_id), by=request.user)
        return Response(status=204)


class KeyReplaceView(ApiView):
    """A key of the same name, rights and limits in place of another."""

    @endpoint(
        "keys_replace",
        "Make a key in place of another, which works for overlap_s more. Needs a fresh session.",
        body=Replacement,
        answers=NewKeyShown,
        status=201,
    )
    def post(self, request, key_id):
        require_fresh_session(request)
        old = find(_mine(request), pk=key_id)
        key, secret = keys.replace(old, by=request.user, **body_of(request, Replacement))
        key.secret = secret
        return Response(NewKeyShown(key).data, status=201)


_CHANGED = [name for name in KeyChange().fields if name != "models"]


def _models(visible, paths: list[str]) -> list:
    """Those of these paths. A model that is not seen does not exist: 404."""
    chosen = []
    for path in paths:
        owner, _slash, slug = path.partition("/")
        chosen.append(find(visible, owner__username=owner, slug=slug))
    return chosen


def _mine(request):
    found = keys.of(request.user).select_related("owner__shared_wallet", "made_by")
    return found.prefetch_related("allowed_models__owner")
