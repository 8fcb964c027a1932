"""Passes and invitations: who may call a model."""

from __future__ import annotations

from rest_framework import serializers
from rest_framework.response import Response

from .. import access, sharing
from ..models import Access
from .base import ApiView, PageQuery, body_of, endpoint, find, page, page_of
from .datanets import Handle, person
from .fields import Id, Shown, Strict, money
from .models import owned, visible


class AccessShown(Shown):
    id = serializers.UUIDField()
    model = serializers.CharField(source="model.path")
    buyer = serializers.CharField(source="buyer.username")
    mode = serializers.CharField()
    price_nano, price_open = money("price_nano")
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(allow_null=True)
    revoked_at = serializers.DateTimeField(allow_null=True)
    receipt_id = serializers.UUIDField(source="posting_id", allow_null=True)


class Purchase(Strict):
    wallet = Id(required=False, help_text="A shared wallet that you may spend from; yours by default.")


class PassesView(ApiView):
    """Passes of a model."""

    @endpoint(
        "passes_buy",
        "Buy a pass. A second one while the first runs is refused.",
        answers=AccessShown,
        status=201,
        body=Purchase,
        refusals=(402,),
    )
    def post(self, request, owner, slug):
        given, buyer = body_of(request, Purchase), request.user
        if "wallet" in given:
            buyer = find(sharing.of(request.user), wallet=given["wallet"]).wallet.account
        bought = access.buy_pass(visible(request, owner, slug), buyer=buyer, by=request.user)
        return Response(AccessShown(bought).data, status=201)


class InvitationsView(ApiView):
    """Who is invited."""

    @endpoint(
        "invitations_list",
        "List who may call a model. For the owner.",
        query=PageQuery,
        answers=page_of(AccessShown),
        reads=True,
    )
    def get(self, request, owner, slug):
        found = Access.objects.filter(model=owned(request, owner, slug)).select_related("model__owner", "buyer")
        return page(request, found, AccessShown, key="starts_at")

    @endpoint("invitations_create", "Invite somebody. For the owner.", body=Handle, answers=AccessShown, status=201)
    def post(self, request, owner, slug):
        model = owned(request, owner, slug)
        buyer = person(body_of(request, Handle)["handle"])
        return Response(AccessShown(access.invite(model, by=request.user, buyer=buyer)).data, status=201)


class InvitationView(ApiView):
    """One invitation."""

    @endpoint("invitations_end", "End an invitation. For the owner.", status=204)
    def delete(self, request, owner, slug, access_id):
        found = Access.objects.filter(model=owned(request, owner, slug)).select_related("model")
        access.revoke_invitation(find(found, pk=access_id), by=request.user)
        return Response(status=204)


class AccessesView(ApiView):
    """What one may call."""

    @endpoint(
        "accesses_list", "List your passes and invitations.", query=PageQuery, answers=page_of(AccessShown), reads=True
    )
    def get(self, request):
        found = Access.objects.filter(buyer=request.user).select_related("model__owner", "buyer")
        return page(request, found, AccessShown, key="starts_at")
