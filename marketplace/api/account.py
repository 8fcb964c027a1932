"""Who am I, what did I agree to, and the token of programs."""

from __future__ import annotations

from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import exceptions, serializers
from rest_framework.response import Response

from accounts.models import Consent

from .. import people, tokens
from ..errors import Invalid
from .base import ApiView, PublicView, body_of, endpoint, require_fresh_session
from .fields import Choice, Shown, Strict, Text


class TokenShown(Shown):
    token = serializers.CharField(help_text="Send it as `Authorization: Token ...`. It is not shown again.")
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()


class Me(Shown):
    handle = serializers.CharField(source="username")
    display_name = serializers.CharField()
    organisation = serializers.CharField()
    language = serializers.CharField()
    is_admin = serializers.BooleanField(source="is_staff")


class Document(Shown):
    document = serializers.CharField()
    version = serializers.CharField(help_text="The version in force.")
    agreed = serializers.BooleanField(help_text="Whether you agreed to this version.")


class Agreement(Strict):
    document = Choice(choices=Consent.Document.choices)
    version = Text(max_length=20, help_text="The version you have read: it must be the one in force.")


class TokenView(ApiView):
    """One token per person. It may do what its person may, but no keys, no payouts, no approvals."""

    @endpoint(
        "token_create", "Make a new token; the old one ends. Needs a fresh session.", answers=TokenShown, status=201
    )
    def post(self, request):
        require_fresh_session(request)
        token, secret = tokens.replace(request.user)
        told = {"token": secret, "created_at": token.created_at, "expires_at": token.expires_at}
        return Response(TokenShown(told).data, status=201)

    @endpoint("token_revoke", "End your token. Without one nothing happens.", status=204)
    def delete(self, request):
        tokens.revoke(request.user)
        return Response(status=204)


class MeView(ApiView):
    """Who asks."""

    @endpoint("me", "See who you are.", answers=Me, reads=True)
    def get(self, request):
        return Response(Me(request.user).data)


class ConsentsView(ApiView):
    """What a person agreed to, in the versions in force."""

    @endpoint("consents_list", "See which documents you agreed to.", answers=Document(many=True), reads=True)
    def get(self, request):
        return Response(Document([_document(request.user, name) for name in Consent.Document.values], many=True).data)

    @endpoint("consents_give", "Agree to a document.", body=Agreement, answers=Document, status=201)
    def post(self, request):
        given = body_of(request, Agreement)
        if given["version"] != people.document_text(given["document"])[0]:
            raise Invalid(_("This is not the version in force. Read the new one first."))
        people.give_consent(request.user, given["document"])
        return Response(Document(_document(request.user, given["document"])).data, status=201)


def _document(user, name: str) -> dict:
    return {"document": name, "version": people.document_text(name)[0], "agreed": people.has_consented(user, name)}


@extend_schema(exclude=True)
class Nothing(PublicView):
    """Every other address, whatever the method: 404 as JSON, so that a program can read it."""

    def initial(self, request, *args, **kwargs):
        raise exceptions.NotFound

    def http_method_not_allowed(self, request, *args, **kwargs):
        raise exceptions.NotFound
