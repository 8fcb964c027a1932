"""Datanets: their rules, the people in them, and who asks to read them."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

USER = settings.AUTH_USER_MODEL


class DatanetQuerySet(models.QuerySet):
    def visible_to(self, user) -> DatanetQuerySet:
        """Open and on-request Datanets are listed for all; closed ones for their members only."""
        listed = ~Q(access=Datanet.Access.CLOSED)
        if user is not None and user.is_authenticated:
            if user.is_staff:
                return self
            listed |= Q(pk__in=Membership.objects.filter(user=user).values("datanet_id"))
        return self.filter(listed)

    def readable_by(self, user) -> DatanetQuerySet:
        """Open Datanets are everybody's to preview; the others are their readers', curators' and the administrators'."""
        readable = Q(access=Datanet.Access.OPEN)
        if user is not None and user.is_authenticated:
            if user.is_staff:
                return self
            # who only contributes has shown no purpose: sending one record must not open an on-request Datanet
            reads = Membership.objects.filter(user=user).exclude(role=Membership.Role.CONTRIBUTOR)
            readable |= Q(pk__in=reads.values("datanet_id"))
        return self.filter(readable)

    def curated_by(self, user) -> DatanetQuerySet:
        """Curators and the owner review. An administrator does not, unless made a curator."""
        if user is None or not user.is_authenticated:
            return self.none()
        curates = Membership.objects.filter(user=user, role__in=Membership.CURATING)
        return self.filter(pk__in=curates.values("datanet_id"))


class Datanet(models.Model):
    """A thematic pool of records, its rules and its people."""

    class Kind(models.TextChoices):
        TEXT = "text", _("Text")
        TABULAR = "tabular", _("Table")
        IMAGE = "image", _("Images")

    class Access(models.TextChoices):
        OPEN = "open", _("Open")
        ON_REQUEST = "on_request", _("On request")
        CLOSED = "closed", _("Closed")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="datanets")
    slug = models.SlugField(max_length=60)
    name = models.CharField(max_length=120)
    purpose = models.CharField(max_length=300)
    kind = models.CharField(max_length=10, choices=Kind.choices)
    # tabular: {"columns": [...], "label": name, "label_type": "category"|"number"}; others: {"labels": [...]} or {}
    schema = models.JSONField(default=dict, blank=True)
    licence = models.CharField(max_length=40)
    rights_statement = models.TextField()
    guidelines = models.TextField(blank=True)
    attribution_note = models.TextField(blank=True)
    answers = models.JSONField(default=dict, blank=True)  # by question: questions.QUESTIONS
    language = models.CharField(max_length=8, blank=True)
    topics = ArrayField(models.CharField(max_length=60), default=list, blank=True)
    access = models.CharField(max_length=12, choices=Access.choices, default=Access.OPEN)
    approvals_needed = models.PositiveSmallIntegerField(default=1)
    preview_rows = models.PositiveIntegerField(default=200)
    export_allowed = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = DatanetQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "slug"], name="datanet_slug_is_unique_per_owner"),
            models.CheckConstraint(
                name="datanet_needs_one_to_three_approvals", condition=Q(approvals_needed__range=(1, 3))
            ),
        ]

    @property
    def path(self) -> str:
        return f"{self.owner.username}/{self.slug}"


class Membership(models.Model):
    """What somebody is in a Datanet. The owner is a member too."""

    class Role(models.TextChoices):
        OWNER = "owner", _("Owner")
        CURATOR = "curator", _("Curator")
        CONTRIBUTOR = "contributor", _("Contributor")
        READER = "reader", _("Reader")

    #: The roles that review.
    CURATING = (Role.OWNER, Role.CURATOR)

    datanet = models.ForeignKey(Datanet, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role.choices)
    since = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["datanet", "user", "role"], name="membership_is_held_once"),
            models.UniqueConstraint(fields=["datanet"], condition=Q(role="owner"), name="datanet_has_one_owner"),
        ]


class RuleChange(models.Model):
    """A rule that an owner changed: what it was, and what it became. Append-only (a trigger)."""

    datanet = models.ForeignKey(Datanet, on_delete=models.PROTECT, related_name="rule_changes")
    rule = models.CharField(max_length=20)  # one of services.RULES
    before = models.JSONField()
    after = models.JSONField()
    changed_by = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.CheckConstraint(name="rule_change_makes_a_difference", condition=~Q(before=F("after")))]
        indexes = [models.Index(fields=["datanet", "-changed_at"], name="rule_changes_newest")]


class AccessRequest(models.Model):
    """Somebody asks to read an on-request Datanet; its owner answers."""

    class Status(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        GRANTED = "granted", _("Granted")
        REFUSED = "refused", _("Refused")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    datanet = models.ForeignKey(Datanet, on_delete=models.CASCADE, related_name="access_requests")
    user = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="access_requests")
    purpose = models.TextField()
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.WAITING)
    answer = models.TextField(blank=True)
    answered_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    answered_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["datanet", "user"], condition=Q(status="waiting"), name="access_request_waits_once"
            ),
            models.CheckConstraint(
                name="access_answer_has_author_and_date",
                condition=Q(status="waiting", answered_by__isnull=True, answered_at__isnull=True)
                | (~Q(status="waiting") & Q(answered_by__isnull=False, answered_at__isnull=False)),
            ),
        ]
