"""Codes and parameters as sentences in the reader's language: why a file failed, why a row is broken, what comes next."""

from __future__ import annotations

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from . import checks
from .kinds.messages import SENTENCES

BROKEN_CHECK = _("This check could not be made; the others count.")

FILES = {
    "bytes_changed": _("The bytes that arrived are not those announced at the beginning. Send the file again."),
    "expired": _("The upload was left unfinished for too long. Send the file again."),
    "sandbox.timeout": _("Reading the file took too long. Split it into smaller files."),
    "sandbox.memory": _("Reading the file needs too much memory. Split it into smaller files."),
    "check.gave_up": _(
        "The file was tried several times and could not be checked. Send it again, or in smaller parts."
    ),
    "sandbox.crash": _("The file could not be read. It may be damaged."),
}

# what a submission waits for, and what to do next
STATES = {
    "no_files": _("Nothing has arrived yet. Add files."),
    "uploading": _("Files arriving: %(files)s. You may close this page and go on later."),
    "checking": _("Files being checked: %(files)s."),
    "broken": _(
        "Rows that need you: %(rows)s; files: %(files)s. Correct or drop the rows, replace or drop the files; "
        "everything else is kept."
    ),
    "nothing_left": _("No record is left to send. Add files."),
    "not_sent": _("Records ready: %(records)s. Describe them, sign for the rights and send them."),
    "in_review": _("Waiting for a curator: %(waiting)s; approved: %(approved)s; rejected: %(rejected)s."),
    "decided": _("All is decided. Approved: %(approved)s; rejected: %(rejected)s."),
    "withdrawn": _("You withdrew this submission. Approved records that stay until you withdraw them: %(kept)s."),
}


def of_problem(code: str, params: dict) -> str:
    """The sentence of SubmissionFile.error_code or BrokenRow.code."""
    if code in FILES:
        return str(FILES[code])
    return gettext(SENTENCES[code]) % params if code in SENTENCES else code


def of_state(code: str, params: dict) -> str:
    """The sentence of Submission.status_code: what is going on, and what to do next."""
    return str(STATES[code]) % params if code in STATES else code


def of_finding(code: str, params: dict) -> str:
    """The sentence of a CheckResult."""
    if code == "check.broke":
        return str(BROKEN_CHECK)
    return gettext(checks.SENTENCES[code]) % params if code in checks.SENTENCES else code


def title_of_check(name: str) -> str:
    return gettext(checks.TITLES[name]) if name in checks.TITLES else name


def action_of_check(name: str) -> str:
    """What to do when this check flagged something; empty when there is nothing to do."""
    return gettext(checks.ACTIONS[name]) if name in checks.ACTIONS else ""
