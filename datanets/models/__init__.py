"""What happened to data: Datanets, submissions, records, checks, reviews, versions. No prices, no ledger.

State machines (ARCHITECTURE.md): a submission goes receiving -> checking -> needs_author | in_review -> decided | withdrawn;
a record checking -> waiting -> approved | rejected, and approved -> withdrawn. A record is never deleted: its content
(RecordBody) is.

The modules follow the business; `from datanets.models import Record` is the one way to all of them.
"""

from datanets.models.datanets import AccessRequest, Datanet, DatanetQuerySet, Membership, RuleChange
from datanets.models.gold import GoldItem, GoldShare
from datanets.models.records import CheckResult, Record, RecordBody, RecordQuerySet
from datanets.models.reviews import Appeal, Claim, Report, Review
from datanets.models.submissions import BrokenRow, BrokenRowQuerySet, Submission, SubmissionFile
from datanets.models.thefts import DisputedRecord, TheftDispute
from datanets.models.versions import Version, VersionFollower

__all__ = [
    "AccessRequest",
    "Appeal",
    "BrokenRow",
    "BrokenRowQuerySet",
    "CheckResult",
    "Claim",
    "Datanet",
    "DatanetQuerySet",
    "DisputedRecord",
    "GoldItem",
    "GoldShare",
    "Membership",
    "Record",
    "RecordBody",
    "RecordQuerySet",
    "Report",
    "Review",
    "RuleChange",
    "Submission",
    "SubmissionFile",
    "TheftDispute",
    "Version",
    "VersionFollower",
]
