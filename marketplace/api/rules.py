"""Split rules as public contracts: one rule, what another would have paid, and what is proposed."""

from __future__ import annotations

from django.shortcuts import get_object_or_404
from django.utils import timezone
from rest_framework import serializers
from rest_framework.response import Response

from .. import proposals, rules, whatif
from ..models import RuleProposal, SplitRule
from .base import ApiView, PageQuery, PublicView, ReadableView, body_of, endpoint, page, page_of, query_of
from .fields import Shown, Strict, money
from .models import GivenParts, Parts, owned, visible


class RuleShown(Shown):
    name = serializers.CharField()
    sha256 = serializers.CharField(help_text="Of the canonical JSON of its parts.")
    parts = Parts()
    adopted_at = serializers.DateTimeField()


class ProposalShown(Shown):
    id = serializers.UUIDField()
    split = Parts(source="split_rule.parts")
    split_sha256 = serializers.CharField(source="split_rule.sha256")
    instead_of = Parts(source="instead_of.parts")
    instead_of_sha256 = serializers.CharField(source="instead_of.sha256")
    proposed_at = serializers.DateTimeField()
    not_before = serializers.DateTimeField(help_text="It holds from the first price list published then or later.")
    adopted_at = serializers.DateTimeField(allow_null=True)
    withdrawn_at = serializers.DateTimeField(allow_null=True)


class PartsQuery(Strict):
    """Basis points per role; they add up to 10,000, and the platform has one."""

    data = serializers.IntegerField(min_value=0, max_value=10_000)  # type: ignore[assignment]
    curation = serializers.IntegerField(min_value=0, max_value=10_000)
    developer = serializers.IntegerField(min_value=0, max_value=10_000)
    platform = serializers.IntegerField(min_value=0, max_value=10_000)
    owner = serializers.IntegerField(min_value=0, max_value=10_000)


class RoleShown(Shown):
    role = serializers.CharField()
    booked_nano, booked_open = money("booked_nano")
    instead_nano, instead_open = money("instead_nano")
    difference_nano, difference_open = money("difference_nano")


class PeopleShown(Shown):
    """Settled charges, contributors and curators; for who is signed in."""

    charges = serializers.IntegerField()
    gain = serializers.IntegerField()
    lose = serializers.IntegerField()
    same = serializers.IntegerField()
    mine_nano, mine_open = money("mine_nano")


class WhatIfShown(Shown):
    charges = serializers.IntegerField()
    charged_nano, charged_open = money("charged_nano")
    roles = RoleShown(many=True)
    people = PeopleShown(
        allow_null=True, help_text="Null for visitors, for very many charges, and where questions were erased."
    )


class RuleView(PublicView):
    """One rule."""

    @endpoint("rules_read", "Read a split rule by its hash.", answers=RuleShown, reads=True)
    def get(self, request, sha256):
        return Response(RuleShown(get_object_or_404(SplitRule, sha256=sha256)).data)


class WhatIfView(PublicView):
    """Another rule over the last 30 days."""

    @endpoint(
        "models_what_if",
        "See what the last 30 days of a model would have paid under another split rule.",
        query=PartsQuery,
        answers=WhatIfShown,
        reads=True,
        refusals=(422,),
    )
    def get(self, request, owner, slug):
        model, now = visible(request, owner, slug), timezone.now()
        parts = dict(query_of(request, PartsQuery))
        rules.check(parts)
        found = whatif.by_role(model, parts, now=now)
        shown = {
            "charges": found.charges,
            "charged_nano": found.charged_nano,
            "roles": [
                dict(zip(("role", "booked_nano", "instead_nano", "difference_nano"), row, strict=True))
                for row in found.rows
            ],
            "people": None,
        }
        if request.user.is_authenticated and (people := whatif.for_page(model, parts, now=now)):
            counts = {name: getattr(people, name) for name in ("charges", "gain", "lose", "same")}
            shown["people"] = counts | {"mine_nano": people.changes.get(request.user.pk, 0)}
        return Response(WhatIfShown(shown).data)


class ProposalsView(ReadableView):
    """Which rules were proposed."""

    @endpoint(
        "rule_proposals_list",
        "List the split rules that were proposed for a model.",
        query=PageQuery,
        answers=page_of(ProposalShown),
        reads=True,
    )
    def get(self, request, owner, slug):
        found = RuleProposal.objects.filter(model=visible(request, owner, slug))
        return page(request, found.select_related("split_rule", "instead_of"), ProposalShown, key="proposed_at")

    @endpoint(
        "rule_proposals_create",
        "Propose another split rule for a model in use. For the owner.",
        body=GivenParts,
        answers=ProposalShown,
        status=201,
    )
    def post(self, request, owner, slug):
        model = owned(request, owner, slug)
        made = proposals.propose(model, by=request.user, parts=dict(body_of(request, GivenParts)))
        return Response(ProposalShown(made).data, status=201)


class ProposalView(ApiView):
    """One proposal."""

    @endpoint("rule_proposals_withdraw", "Withdraw a proposed split rule before it holds. For the owner.", status=204)
    def delete(self, request, owner, slug, proposal_id):
        model = owned(request, owner, slug)
        proposals.withdraw(get_object_or_404(RuleProposal, pk=proposal_id, model=model), by=request.user)
        return Response(status=204)
