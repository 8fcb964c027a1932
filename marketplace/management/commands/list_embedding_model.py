"""`manage.py list_embedding_model`: put the bundled embedding model into the shop. Repeating it changes prices only."""

from __future__ import annotations

from django.core.management.base import BaseCommand, CommandError

from accounts.models import User
from marketplace import operators
from marketplace.errors import MarketplaceError


class Command(BaseCommand):
    help = "List the bundled embedding model. No Datanet shaped it: calls pay its owner and the platform."

    def add_arguments(self, parser) -> None:
        parser.add_argument("--owner", required=True, help="handle of who gets the developer's part and manages it")
        parser.add_argument("--by", required=True, help="handle of the admin who does this")
        parser.add_argument("--slug", default="text-embeddings", help="its address: owner/slug")
        parser.add_argument("--name", default="Text embeddings")
        parser.add_argument("--purpose", default="A vector of 384 numbers for each text, for search and comparison.")
        parser.add_argument("--price-call-nano", type=int, required=True, help="nano-OPEN per call")
        parser.add_argument("--price-in-nano", type=int, required=True, help="nano-OPEN per token")

    def handle(self, *args, owner: str, by: str, **options) -> None:
        wanted = {name: options[name] for name in ("slug", "name", "purpose", "price_call_nano", "price_in_nano")}
        try:
            version = operators.list_embedding_model(
                owner=_person(owner), by=_person(by), artifact_sha256=operators.weights_sha256(), **wanted
            )
        except MarketplaceError as problem:
            raise CommandError(str(problem)) from problem
        self.stdout.write(f"{version.path} is listed.")


def _person(handle: str) -> User:
    found = User.objects.filter(username=handle, is_active=True).first()
    if found is None:
        raise CommandError(f"Nobody has the handle {handle}.")
    return found
