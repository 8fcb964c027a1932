"""Acts that need data and the shop's memory together: publish a version, withdraw a record, decide on a report of one,
change a Datanet."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.models import User
from datanets import records, reports, versions
from datanets import services as datanets
from datanets.models import Datanet, Record, Report, Version
from ledger import services as ledger

from . import audit, notifications
from .errors import NotAllowed


@transaction.atomic
def publish_version(datanet: Datanet, *, by: User, note: str = "") -> Version:
    """Freeze the approved records into the next version, and say so in the public log: both or neither."""
    if not datanets.can_own(by, datanet):
        raise NotAllowed(_("Only the owner of a Datanet may publish a version."))
    version = versions.freeze(datanet, by=by, note=note)
    ledger.record_fact(
        id=version.pk,
        reference=f"version:{version.pk}",
        entry=ledger.Entry(
            type="version.published",
            public={
                "datanet_id": str(datanet.pk),
                "version": version.number,
                "records": version.record_count,
                "root": f"sha256:{version.root}",
                "licence": datanet.licence,
            },
        ),
    )
    audit.record(by, "publish_version", f"version:{version.pk}")
    return version


@transaction.atomic
def change_datanet(datanet: Datanet, *, by: User, **fields: Any) -> list[str]:
    """Change a Datanet's settings and remember who changed what: both or neither. Without a difference nothing happens.

    Returns the names of the changed fields. Raises what `datanets.services.change_datanet` raises.
    """
    changed = datanets.change_datanet(datanet, by=by, **fields)
    if changed:
        audit.record(
            by,
            "change_datanet",
            f"datanet:{datanet.pk}",
            **audit.changes({name: getattr(datanet, name) for name in changed}),
        )
    return changed


@transaction.atomic
def withdraw_record(record: Record, *, by: User) -> Record:
    """Take a record back: out of retrieval and previews at once, out of the next version; calls before stay paid."""
    record = records.withdraw(record, by=by)
    _remember_withdrawal(record, by=by)
    return record


def withdrawal_id(record: Record) -> uuid.UUID:
    """The id of the log's entry about the withdrawal of a record."""
    return uuid.uuid5(record.datanet_id, f"record:{record.pk}:withdrawn")


@transaction.atomic
def report_record(record: Record, *, by: User, reason: str, text: str) -> Report:
    """Report a record to the curators of its Datanet, who are told in their inbox.

    Where every one of them is a party to it, the administrators are told: they may take the record down.
    Raises what `reports.report` raises.
    """
    report = reports.report(record, by=by, reason=reason, text=text)
    audit.record(by, "report_record", f"record:{record.pk}", report=str(report.pk), reason=reason)
    told, address = reports.deciders_of(report), reverse("review_reports")
    if not told:
        told, address = list(User.objects.filter(is_staff=True)), reverse("record", args=[record.pk])
    for person in told:
        url = notifications.without_language(address)
        notifications.notify(person, "record_reported", url=url, datanet=record.datanet.path)
    return report


@transaction.atomic
def decide_report(report: Report, *, by: User, withdraw: bool, note: str) -> Report:
    """Dismiss a report, or withdraw its record as `withdraw_record` does. Both parties are told (`tell_news`).

    Raises what `reports.decide` raises.
    """
    report = reports.decide(report, curator=by, withdraw=withdraw, note=note)
    if withdraw:
        _remember_withdrawal(report.record, by=by)
    audit.record(by, "decide_report", f"record:{report.record_id}", report=str(report.pk), decision=report.status)
    return report


def _remember_withdrawal(record: Record, *, by: User) -> None:
    ledger.record_fact(
        id=withdrawal_id(record),
        reference=f"record:{record.pk}",
        entry=ledger.Entry(
            type="consent.withdrawn",
            public={"datanet_id": str(record.datanet_id)},
            private={"contributor": f"user:{record.contributor_id}", "records": [record.identity]},
        ),
    )
    audit.record(by, "withdraw_record", f"record:{record.pk}")
