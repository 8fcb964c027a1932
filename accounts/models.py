"""Who somebody is. Roles are not here: curator, owner and contributor are memberships of a Datanet, `is_staff` is admin."""

from __future__ import annotations

import re

from django.contrib.auth.models import AbstractUser
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

HANDLE_PATTERN = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")


class User(AbstractUser):
    """A person. `username` is the public handle: it stands in URLs and in model names (`owner/model`).

    Or (`is_wallet`) the account of a wallet that people share: a name in the books, which nobody can sign in as.
    """

    username = models.CharField(
        _("handle"),
        max_length=40,
        unique=True,
        validators=[RegexValidator(HANDLE_PATTERN, _("Use lower-case letters, digits and hyphens."))],
        error_messages={"unique": _("This handle is taken.")},
    )
    email = models.EmailField(_("e-mail address"))
    display_name = models.CharField(_("name shown to others"), max_length=80, blank=True)
    language = models.CharField(_("language"), max_length=5, default="en")
    organisation = models.CharField(_("organisation"), max_length=120, blank=True)
    erased_at = models.DateTimeField(null=True, blank=True, editable=False)
    is_wallet = models.BooleanField(default=False, editable=False)

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(Lower("email"), name="user_email_is_unique", condition=~models.Q(email="")),
            models.CheckConstraint(
                name="user_handle_is_url_safe",
                condition=models.Q(username__regex=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"),
            ),
            models.CheckConstraint(
                name="nobody_signs_in_as_a_wallet",
                condition=models.Q(is_wallet=False)
                | models.Q(("password__startswith", "!"), is_staff=False, is_superuser=False, email=""),
            ),
            models.CheckConstraint(
                name="erased_person_is_named_nowhere",
                condition=models.Q(erased_at__isnull=True)
                | models.Q(is_active=False, username__startswith="closed-", email="", display_name="", organisation=""),
            ),
        ]

    @property
    def label(self) -> str:
        """The name pages show: the chosen one, else the handle."""
        return self.display_name or self.username


class Consent(models.Model):
    """A person agreed to one version of one document. Append-only: a new version is a new row."""

    class Document(models.TextChoices):
        TERMS = "terms", _("Terms of use")
        CONTRIBUTOR = "contributor", _("Contributor agreement")
        PRIVACY = "privacy", _("Privacy notice")

    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="consents")
    document = models.CharField(max_length=20, choices=Document.choices)
    version = models.CharField(max_length=20)
    text_sha256 = models.CharField(max_length=64)
    given_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "document", "version"], name="consent_is_given_once_per_version")
        ]


class ApiToken(models.Model):
    """With it a program acts for a person on the site's API. Only the hash is kept; one per person."""

    user = models.OneToOneField(User, primary_key=True, on_delete=models.CASCADE, related_name="api_token")
    sha256 = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(default=timezone.now)
    last_used_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField()

    @property
    def is_expired(self) -> bool:
        return self.expires_at <= timezone.now()
