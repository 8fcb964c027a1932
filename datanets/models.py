"""What happened to data: Datanets, submissions, records, checks, reviews, versions. No prices, no ledger.

State machines (ARCHITECTURE.md): a submission goes receiving -> checking -> needs_author | in_review -> decided | withdrawn;
a record checking -> waiting -> approved | rejected, and approved -> withdrawn. A record is never deleted: its content
(RecordBody) is.
"""

from __future__ import annotations

import uuid

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
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
        roles = [Membership.Role.OWNER, Membership.Role.CURATOR]
        return self.filter(pk__in=Membership.objects.filter(user=user, role__in=roles).values("datanet_id"))


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


class Submission(models.Model):
    """What a contributor sends at once: one or more files, checked and reviewed together."""

    class Status(models.TextChoices):
        RECEIVING = "receiving", _("Receiving")
        CHECKING = "checking", _("Checking")
        NEEDS_AUTHOR = "needs_author", _("Needs you")
        IN_REVIEW = "in_review", _("In review")
        DECIDED = "decided", _("Decided")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    datanet = models.ForeignKey(Datanet, on_delete=models.PROTECT, related_name="submissions")
    contributor = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="submissions")
    title = models.CharField(max_length=160, blank=True)
    description = models.TextField(blank=True)
    source_url = models.URLField(max_length=500, blank=True)
    rights_signed_at = models.DateTimeField(null=True, blank=True)
    rights_statement_sha256 = models.CharField(max_length=64, blank=True)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.RECEIVING)
    # why it is in this state, as (code, parameters): the page builds the sentence and says what to do next
    status_code = models.CharField(max_length=40, blank=True)
    status_params = models.JSONField(default=dict, blank=True)
    status_at = models.DateTimeField(default=timezone.now)
    revision_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="revisions")
    created_at = models.DateTimeField(default=timezone.now)
    sent_at = models.DateTimeField(null=True, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="submission_is_reviewed_only_with_rights_signed",
                condition=~Q(status__in=["in_review", "decided"]) | Q(rights_signed_at__isnull=False),
            ),
        ]
        indexes = [models.Index(fields=["datanet", "status", "sent_at"], name="submission_queue")]


class SubmissionFile(models.Model):
    """One file of a submission. A broken file never cancels the others."""

    class Status(models.TextChoices):
        UPLOADING = "uploading", _("Uploading")
        WAITING = "waiting", _("Waiting")
        CHECKING = "checking", _("Checking")
        READY = "ready", _("Ready")
        NEEDS_AUTHOR = "needs_author", _("Needs you")
        FAILED = "failed", _("Failed")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    submission = models.ForeignKey(Submission, on_delete=models.CASCADE, related_name="files")
    name = models.CharField(max_length=255)
    size_bytes = models.BigIntegerField()
    received_bytes = models.BigIntegerField(default=0)
    declared_sha256 = models.CharField(max_length=64, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    # while uploading: the storage keys of what has arrived, in order; then one original under storage_key
    parts = models.JSONField(default=list, blank=True)
    storage_key = models.CharField(max_length=120, blank=True, db_index=True)
    status = models.CharField(max_length=12, choices=Status.choices, default=Status.UPLOADING)
    error_code = models.CharField(max_length=40, blank=True)
    error_params = models.JSONField(default=dict, blank=True)
    records_ok = models.PositiveIntegerField(default=0)
    rows_broken = models.PositiveIntegerField(default=0)
    # all its rows are records or broken rows: a check that was killed goes on after this point
    parsed_at = models.DateTimeField(null=True, blank=True)
    # checks begun and not ended: one that kills its worker, or always breaks, is given up in the end
    attempts = models.PositiveSmallIntegerField(default=0)
    dropped_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="file_receives_no_more_than_declared",
                condition=Q(received_bytes__gte=0, received_bytes__lte=F("size_bytes")),
            )
        ]


class BrokenRowQuerySet(models.QuerySet):
    def still_broken(self) -> BrokenRowQuerySet:
        """Neither corrected nor dropped yet."""
        return self.filter(fixed_at__isnull=True, dropped_at__isnull=True)

    def awaiting_author(self) -> BrokenRowQuerySet:
        """Still broken, in a file that has been checked to its end: before that its rows are nobody's to correct."""
        needy = SubmissionFile.objects.filter(status=SubmissionFile.Status.NEEDS_AUTHOR, dropped_at__isnull=True)
        return self.still_broken().filter(file__in=needy)


class BrokenRow(models.Model):
    """A row that did not fit the schema. Its author corrects it on the page; the others go on without it."""

    file = models.ForeignKey(SubmissionFile, on_delete=models.CASCADE, related_name="broken_rows")
    line = models.PositiveIntegerField()  # 0: a member without lines (a document or picture of an archive)
    name = models.CharField(max_length=255, blank=True)  # of the member, inside an archive
    column = models.CharField(max_length=120, blank=True)
    code = models.CharField(max_length=40)
    params = models.JSONField(default=dict, blank=True)
    values = models.JSONField(default=dict, blank=True)
    record = models.ForeignKey("Record", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    fixed_at = models.DateTimeField(null=True, blank=True)
    dropped_at = models.DateTimeField(null=True, blank=True)

    objects = BrokenRowQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["file", "line"], name="broken_row_by_line")]


class RecordQuerySet(models.QuerySet):
    def awaiting_review(self) -> RecordQuerySet:
        return self.filter(status=Record.Status.WAITING)

    def in_version(self, version: Version) -> RecordQuerySet:
        """The records frozen into a version: added at or before it and not removed by it."""
        return self.filter(datanet_id=version.datanet_id, added_in__lte=version.number).filter(
            Q(removed_in__isnull=True) | Q(removed_in__gt=version.number)
        )


class Record(models.Model):
    """One datum. Its public identity is a salted commitment; `copy_of` is decided at registration and never changes."""

    class Status(models.TextChoices):
        CHECKING = "checking", _("Checking")
        WAITING = "waiting", _("Waiting for review")
        APPROVED = "approved", _("Approved")
        REJECTED = "rejected", _("Rejected")
        WITHDRAWN = "withdrawn", _("Withdrawn")

    id = models.BigAutoField(primary_key=True)
    datanet = models.ForeignKey(Datanet, on_delete=models.PROTECT, related_name="records")
    submission = models.ForeignKey(Submission, on_delete=models.PROTECT, related_name="records")
    file = models.ForeignKey(SubmissionFile, on_delete=models.PROTECT, related_name="records")
    contributor = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="records")
    position = models.PositiveIntegerField()  # line of the file, or number of the member
    title = models.CharField(max_length=200, blank=True)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.CHECKING)
    # sha256("open-record/1" || salt32 || canonical bytes), hex
    identity = models.CharField(max_length=64, unique=True)
    # equality inside the site: HMAC of the canonical bytes under RECORD_KEY; cleared on erasure
    content_hmac = models.CharField(max_length=64, blank=True, db_index=True)
    signature = models.BinaryField(default=bytes)
    bands = ArrayField(models.BigIntegerField(), default=list, blank=True)
    copy_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="copies")
    copy_distance = models.FloatField(null=True, blank=True)
    flags = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    quality = models.PositiveSmallIntegerField(null=True, blank=True)  # 0-100, from the checks
    reject_reason = models.CharField(max_length=40, blank=True)
    decided_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True, blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    # whoever took it down; empty for what its contributor gave up undecided, with its file or submission
    withdrawn_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    added_in = models.PositiveIntegerField(null=True, blank=True)
    removed_in = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = RecordQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["file", "position"], name="record_stands_once_in_its_file"),
            # the target of the reviews' composite foreign key (no self-review)
            models.UniqueConstraint(fields=["id", "contributor"], name="record_and_contributor"),
            models.CheckConstraint(
                name="record_decision_has_author_and_date",
                condition=(Q(status__in=["checking", "waiting"], decided_by__isnull=True, decided_at__isnull=True))
                | Q(status__in=["approved", "rejected"], decided_by__isnull=False, decided_at__isnull=False)
                | Q(status="withdrawn", withdrawn_at__isnull=False),
            ),
            models.CheckConstraint(
                name="record_copies_an_earlier_one", condition=Q(copy_of__isnull=True) | Q(copy_of__lt=F("id"))
            ),
            models.CheckConstraint(
                name="record_rejection_has_a_reason", condition=~Q(status="rejected") | ~Q(reject_reason="")
            ),
            models.CheckConstraint(
                name="approver_is_not_the_contributor",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("contributor")),
            ),
        ]
        indexes = [
            models.Index(fields=["datanet", "status", "id"], name="record_by_datanet"),
            models.Index(fields=["contributor", "id"], name="record_by_contributor"),
            GinIndex(fields=["bands"], name="record_bands"),
        ]


class RecordBody(models.Model):
    """The only place that holds content. Erasing a record deletes this row and its blobs."""

    record = models.OneToOneField(Record, primary_key=True, on_delete=models.CASCADE, related_name="body")
    body = models.JSONField()
    salt = models.BinaryField()
    media_key = models.CharField(max_length=120, blank=True, db_index=True)
    thumb_key = models.CharField(max_length=120, blank=True, db_index=True)


class CheckResult(models.Model):
    """One finding of one check: a number, a sentence (code and parameters), evidence."""

    class Severity(models.TextChoices):
        PASS = "pass", _("Passed")
        INFO = "info", _("Note")
        FLAG = "flag", _("Flagged")
        FAIL = "fail", _("Failed")

    submission = models.ForeignKey(Submission, on_delete=models.CASCADE, related_name="check_results")
    file = models.ForeignKey(
        SubmissionFile, null=True, blank=True, on_delete=models.CASCADE, related_name="check_results"
    )
    record = models.ForeignKey(Record, null=True, blank=True, on_delete=models.CASCADE, related_name="check_results")
    check_name = models.CharField(max_length=40)
    check_version = models.CharField(max_length=20)
    severity = models.CharField(max_length=4, choices=Severity.choices)
    number = models.FloatField(null=True, blank=True)
    code = models.CharField(max_length=60)
    params = models.JSONField(default=dict, blank=True)
    evidence = models.JSONField(default=dict, blank=True)
    finished_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["submission", "check_name"], name="check_by_submission")]


class Claim(models.Model):
    """A curator works on a submission; others see it. It ends by itself."""

    submission = models.OneToOneField(Submission, primary_key=True, on_delete=models.CASCADE, related_name="claim")
    curator = models.ForeignKey(USER, on_delete=models.CASCADE, related_name="claims")
    until = models.DateTimeField()


class Review(models.Model):
    """One curator's decision on one record. Undone decisions stay, marked.

    `contributor` repeats the record's: a composite foreign key (see the migration) keeps it true, and the check beside
    it makes self-review impossible for whoever writes the row.
    """

    class Decision(models.TextChoices):
        APPROVE = "approve", _("Approve")
        REJECT = "reject", _("Reject")

    class Reason(models.TextChoices):
        OFF_TOPIC = "off_topic", _("Off topic")
        LOW_QUALITY = "low_quality", _("Low quality")
        WRONG_LABEL = "wrong_label", _("Wrong label")
        COPY = "copy", _("Copy of another record")
        PERSONAL_DATA = "personal_data", _("Contains personal data")
        RIGHTS = "rights", _("Rights not clear")
        HARMFUL = "harmful", _("Harmful content")
        SPAM = "spam", _("Spam or generated filler")
        OTHER = "other", _("Other")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="reviews")
    contributor = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    curator = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="reviews")
    decision = models.CharField(max_length=8, choices=Decision.choices)
    reason = models.CharField(max_length=20, choices=Reason.choices, blank=True)
    note = models.TextField(blank=True)
    evidence = models.JSONField(default=dict, blank=True)
    act = models.UUIDField(default=uuid.uuid4)  # one click: what undo takes back
    decided_at = models.DateTimeField(default=timezone.now)
    undone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="nobody_reviews_their_own_record", condition=~Q(curator=F("contributor"))),
            models.UniqueConstraint(
                fields=["record", "curator"], condition=Q(undone_at__isnull=True), name="curator_votes_once_per_record"
            ),
            models.CheckConstraint(name="rejection_has_a_reason", condition=~Q(decision="reject") | ~Q(reason="")),
        ]
        indexes = [models.Index(fields=["act"], name="review_by_act")]


class Appeal(models.Model):
    """A contributor asks for a second look, by another curator who does not see the first one's name."""

    class Status(models.TextChoices):
        OPEN = "open", _("Open")
        UPHELD = "upheld", _("Decision stands")
        OVERTURNED = "overturned", _("Decision overturned")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="appeals")
    text = models.TextField()
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.OPEN)
    due_at = models.DateTimeField()
    decided_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(null=True, blank=True)
    note = models.TextField(blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["record"], condition=Q(status="open"), name="record_has_one_open_appeal"),
            models.CheckConstraint(
                name="appeal_answer_has_author_and_date",
                condition=Q(status="open", decided_by__isnull=True, decided_at__isnull=True)
                | (~Q(status="open") & Q(decided_by__isnull=False, decided_at__isnull=False)),
            ),
        ]


class Report(models.Model):
    """Somebody says why a record should not be there. Curators read the reason and the text, and not who wrote them.

    `contributor` repeats the record's, as in a review: so the checks keep both parties of a report from deciding on it.
    """

    class Reason(models.TextChoices):
        PERSONAL_DATA = "personal_data", _("It contains personal data")
        RIGHTS = "rights", _("It was not theirs to share")
        WRONG = "wrong", _("It is wrong or mislabelled")
        HARMFUL = "harmful", _("It is harmful")
        OTHER = "other", _("Something else")

    class Status(models.TextChoices):
        OPEN = "open", _("Open")
        DISMISSED = "dismissed", _("Dismissed")
        UPHELD = "upheld", _("Record withdrawn")
        LAPSED = "lapsed", _("Withdrawn before a decision")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="reports")
    contributor = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    reporter = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="reports")
    reason = models.CharField(max_length=20, choices=Reason.choices)
    text = models.TextField()  # emptied with the record's content: it may quote it
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.OPEN)
    decided_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    note = models.TextField(blank=True)
    closed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["record", "reporter"], condition=Q(status="open"), name="person_has_one_open_report_of_a_record"
            ),
            models.CheckConstraint(
                name="report_decision_has_author_date_and_note",
                condition=Q(status="open", decided_by__isnull=True, closed_at__isnull=True)
                | Q(status="lapsed", decided_by__isnull=True, closed_at__isnull=False)
                | (
                    Q(status__in=["dismissed", "upheld"], decided_by__isnull=False, closed_at__isnull=False)
                    & ~Q(note="")
                ),
            ),
            models.CheckConstraint(name="nobody_reports_their_own_record", condition=~Q(reporter=F("contributor"))),
            models.CheckConstraint(
                name="nobody_decides_a_report_they_filed",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("reporter")),
            ),
            models.CheckConstraint(
                name="nobody_decides_a_report_of_their_record",
                condition=Q(decided_by__isnull=True) | ~Q(decided_by=F("contributor")),
            ),
        ]
        indexes = [models.Index(fields=["reporter", "-created_at"], name="report_by_reporter")]


class TheftDispute(models.Model):
    """Somebody says: these records are mine, not their contributor's. Two who are no party to it let it be won, one lost.

    open -> upheld (by a first one) -> won (by a second) | lost | withdrawn (by the claimant) | lapsed (nobody decided in time)

    `contributor` repeats the records': all are of one person, and no party ever decides. While it runs, money that the
    records earned and that is still pending stays where it is; of a won one it goes to the claimant (marketplace.thefts).
    """

    class Status(models.TextChoices):
        OPEN = "open", _("Waits for a decision")
        UPHELD = "upheld", _("Waits for a second decision")
        WON = "won", _("The author was right")
        LOST = "lost", _("The records stay their contributor’s")
        WITHDRAWN = "withdrawn", _("Taken back")
        LAPSED = "lapsed", _("Not decided in time")

    RUNNING = (Status.OPEN, Status.UPHELD)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    datanet = models.ForeignKey(Datanet, on_delete=models.PROTECT, related_name="theft_disputes")
    claimant = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="theft_disputes")
    contributor = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    statement = models.TextField()
    evidence = models.TextField()
    own_record = models.ForeignKey(Record, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    answer = models.TextField(blank=True)  # the contributor's
    answered_at = models.DateTimeField(null=True, blank=True)
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.OPEN)
    first_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    first_note = models.TextField(blank=True)
    decided_by = models.ForeignKey(USER, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    note = models.TextField(blank=True)
    opened_at = models.DateTimeField(default=timezone.now)
    decide_by = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(name="nobody_disputes_their_own_record", condition=~Q(claimant=F("contributor"))),
            models.CheckConstraint(
                name="theft_dispute_says_what_and_why", condition=~Q(statement="") & ~Q(evidence="")
            ),
            models.CheckConstraint(
                name="answer_to_a_theft_dispute_has_a_date",
                condition=Q(answer="", answered_at__isnull=True) | (~Q(answer="") & Q(answered_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="theft_dispute_is_where_it_says",
                condition=Q(status="open", first_by__isnull=True, decided_by__isnull=True, ended_at__isnull=True)
                | (
                    Q(status="upheld", first_by__isnull=False, decided_by__isnull=True, ended_at__isnull=True)
                    & ~Q(first_note="")
                )
                | (
                    Q(status="won", first_by__isnull=False, decided_by__isnull=False, ended_at__isnull=False)
                    & ~Q(first_note="")
                    & ~Q(note="")
                )
                | (Q(status="lost", decided_by__isnull=False, ended_at__isnull=False) & ~Q(note=""))
                | Q(status__in=["withdrawn", "lapsed"], decided_by__isnull=True, ended_at__isnull=False),
            ),
            models.CheckConstraint(
                name="two_people_let_a_theft_dispute_be_won",
                condition=Q(first_by__isnull=True) | Q(decided_by__isnull=True) | ~Q(decided_by=F("first_by")),
            ),
            models.CheckConstraint(
                name="no_party_decides_a_theft_dispute",
                condition=(Q(first_by__isnull=True) | (~Q(first_by=F("claimant")) & ~Q(first_by=F("contributor"))))
                & (Q(decided_by__isnull=True) | (~Q(decided_by=F("claimant")) & ~Q(decided_by=F("contributor")))),
            ),
        ]
        indexes = [
            models.Index(fields=["claimant", "-opened_at"], name="theft_dispute_by_claimant"),
            models.Index(fields=["contributor", "-opened_at"], name="theft_dispute_by_contributor"),
            models.Index(fields=["decide_by"], name="theft_dispute_running", condition=Q(ended_at__isnull=True)),
        ]


class DisputedRecord(models.Model):
    """A record that a theft dispute is about, and what came of it."""

    class State(models.TextChoices):
        RUNNING = "running", _("Disputed")
        AWARDED = "awarded", _("Given to its author")
        KEPT = "kept", _("Its contributor’s")

    id = models.BigAutoField(primary_key=True)
    dispute = models.ForeignKey(TheftDispute, on_delete=models.PROTECT, related_name="records")
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="disputed")
    state = models.CharField(max_length=7, choices=State.choices, default=State.RUNNING)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["record"],
                condition=Q(state__in=["running", "awarded"]),
                name="record_is_disputed_by_one_and_awarded_once",
            ),
            models.UniqueConstraint(fields=["dispute", "record"], name="theft_dispute_names_a_record_once"),
        ]


class Version(models.Model):
    """A frozen, hashed set of approved records and its leader map. Immutable."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    datanet = models.ForeignKey(Datanet, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    root = models.CharField(max_length=64)  # Merkle root over record identities and the leader map, hex
    leader_map_sha256 = models.CharField(max_length=64)
    record_count = models.PositiveIntegerField()
    leader_count = models.PositiveIntegerField()
    added_count = models.PositiveIntegerField()
    removed_count = models.PositiveIntegerField()
    licences = models.JSONField(default=dict)
    statistics = models.JSONField(default=dict)  # over all rows; equal to pandas on the Parquet export
    note = models.TextField(blank=True)
    manifest_key = models.CharField(max_length=120)
    created_by = models.ForeignKey(USER, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["datanet", "number"], name="version_number_is_unique")]

    @property
    def label(self) -> str:
        return f"v{self.number}"


class VersionFollower(models.Model):
    """The leader map of a version: this record is a copy, and that one stands for both."""

    version = models.ForeignKey(Version, on_delete=models.PROTECT, related_name="followers")
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="+")
    leader = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "record"], name="record_follows_once_per_version"),
            models.CheckConstraint(name="no_record_follows_itself", condition=~Q(record=F("leader"))),
        ]
