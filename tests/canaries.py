"""Words that can be searched for, and the search: tables, storage, tiles, Redis, every log, with what is sealed opened.

The list of where to write them is the models' own: a text field that the story of tests/marketplace/test_erasure.py
neither writes to nor knows as never personal fails it, so a new field is thought about before it can keep somebody's words.
"""

import base64
import io
import json
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from django.apps import apps
from django.conf import settings as site
from django.contrib.postgres.fields import ArrayField
from django.core.cache import cache
from django.db import connection, models

from attribution import content
from ledger import services as ledger
from ledger.publication import Publication
from marketplace import listings
from marketplace.models import CallContent

# What a person may write that is not erased, because others rely on it: docs/accounts.md says so, and so does the
# privacy notice. Everything else is searched for.
PUBLISHED = {
    "datanets.Datanet": "its rights statement was signed, its rules were followed and its name cited by others",
    "datanets.RuleChange": "what the rules of a Datanet were",
    "marketplace.SplitRule": "adopted by administrators",
}
# Text fields no person writes to: codes, hashes, keys and sentences of the program.
NEVER_PERSONAL = {
    "accounts.Consent": "document, version and hash of a published text",
    "accounts.ApiToken": "a hash",
    "accounts.User.language": "a choice",
    "account.EmailConfirmation": "a random key",
    "attribution.Artifact": "engine, method, numbers, hashes",
    "attribution.Epoch": "ids and roots",
    "attribution.Line.reason": "a code",
    "attribution.NoiseReport": "codes and figures",
    "attribution.NoiseCase": "figures, and words that are erased with the account, as test_noise_cases.py shows",
    "attribution.PlanShard": "ids, hashes and numbers, until the epoch is planned",
    "attribution.PlannedPosting": "accounts by number",
    "attribution.ScoreCard": "figures of a model",
    "attribution.ScoreCardPart": "names of figures, and what the program says when one fails",
    "attribution.Trace": "codes, hashes, and the numbers a score is recomputed from",
    "auth": "Django's own names of rights",
    "contenttypes": "Django's own names of models",
    "django_celery_beat": "the schedule",
    "ledger.LedgerAccount": "accounts by number",
    "ledger.Journal": "references by id",
    "ledger.Hold": "a process",
    "ledger.HeldAhead": "accounts by number, codes",
    "ledger.Lot.held_by": "a code",
    "ledger.Fact": "references by id",
    "ledger.Opening": "commitments to numbers, ids and hashes; deleted, as their own test shows",
    "ledger.Leaf": "public entries: ids, numbers, hashes",
    "ledger.Checkpoint": "heads",
    "ledger.Cosignature": "heads",
    "ledger.Cursor": "a name of the program's",
    "ledger.Outbox": "codes and ids; what is sealed in a payload goes with its end",
    "mfa.Authenticator": "sealed or random; deleted with the account",
    "sessions.Session": "ended with the account",
    "usersessions.UserSession": "deleted with the account",
    "accounts.User.password": "a hash; replaced",
    "datanets.BrokenRow.code": "a code",
    "datanets.BrokenRow.column": "deleted with its row, whose values are searched for",
    "datanets.BrokenRow.name": "deleted with its row",
    "datanets.BrokenRow.params": "deleted with its row",
    "datanets.CheckResult.evidence": "deleted with its row",
    "datanets.CheckResult.params": "deleted with its row",
    "datanets.CheckResult.check_name": "a code",
    "datanets.CheckResult.check_version": "a code",
    "datanets.CheckResult.code": "a code",
    "datanets.GoldItem.storage_key": "random",
    "datanets.Record.content_hmac": "cleared with the content",
    "datanets.Record.identity": "a salted hash whose salt is erased",
    "datanets.Record.flags": "codes of checks",
    "datanets.Record.reject_reason": "a choice",
    "datanets.RecordBody.media_key": "random",
    "datanets.RecordBody.thumb_key": "random",
    "datanets.Submission.rights_statement_sha256": "a hash of the Datanet's text",
    "datanets.Submission.status_code": "a code",
    "datanets.Submission.status_params": "counts",
    "datanets.Version.leader_map_sha256": "a hash",
    "datanets.Version.licences": "a licence, hashes of statements",
    "datanets.Version.manifest_key": "random",
    "datanets.Version.root": "a hash",
    "datanets.SubmissionFile.declared_sha256": "cleared",
    "datanets.SubmissionFile.sha256": "cleared",
    "datanets.SubmissionFile.parts": "random",
    "datanets.SubmissionFile.storage_key": "random",
    "datanets.SubmissionFile.error_code": "a code",
    "datanets.SubmissionFile.error_params": "cleared",
    "datanets.Review.evidence": "cleared",
    "datanets.TheftDispute": "a claim, its answer and decisions; erased with the account, as test_thefts.py shows",
    "datanets.DisputedRecord": "codes",
    "marketplace.ApiKey.prefix": "the random beginning of a key",
    "marketplace.ApiKey.scopes": "choices",
    "marketplace.AuditEvent": "ids, codes and amounts (marketplace.audit)",
    "marketplace.Call.endpoint": "a code",
    "marketplace.Call.error_code": "a code",
    "marketplace.TestCall.endpoint": "a code",
    "marketplace.SharedWallet.name": "its members' together; stays until they close it",
    "marketplace.WalletInvitation.address": "gone when it is answered, or its sender is erased",
    "marketplace.WalletTransfer.reference": "made by the page; replaced by its number",
    "marketplace.TestCall.error_code": "a code",
    "marketplace.Deposit.external_reference": "an administrator's: the payment at the bank, which the law keeps",
    "marketplace.DemoProgress": "the demo's own steps",
    "marketplace.FreeCall.process": "a process",
    "marketplace.Fallback.url": "deleted with its row, whose key and name are searched for",
    "marketplace.Idempotency.process": "a process",
    "marketplace.KeyLease.process": "a process",
    "marketplace.Refund.grounds": "a choice",
    "marketplace.UnattributedRelease": "ids and amounts",
    "marketplace.WebhookAttempt.error": "a code",
    "marketplace.WebhookEndpoint.events": "names of the program's",
    "marketplace.WebhookEndpoint.old_secret_token": "random, sealed; deleted with the account",
    "marketplace.WebhookEndpoint.secret_token": "random, sealed; deleted with the account",
    "marketplace.ListedModel.name": "published: others called, paid and cited it",
    "marketplace.ListedModel.slug": "published: others called, paid and cited it",
    "marketplace.ListedModel.upstream_url": "replaced; sealed key and name of the upstream are searched for",
    "marketplace.ModelVersion.artifact_sha256": "a hash",
    "marketplace.Notification.kind": "a code",
    "marketplace.Notification.subject": "ids",
    "marketplace.Notification.url": "addresses by id",
    "marketplace.PayoutDestination.hint": "the last characters; deleted with its row",
    "marketplace.PayoutDestination.kind": "a choice",
    "marketplace.PriceList.sha256": "a hash",
    "marketplace.TrainingRun": "codes and numbers",
    "marketplace.Withdrawal.destination_hint": "the last characters; cleared",
    "marketplace.Withdrawal.destination_kind": "a choice",
} | PUBLISHED


class Canaries:
    """Random words, and the places they were given to."""

    def __init__(self) -> None:
        self.placed: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        word = f"kanari{secrets.token_hex(8)}"
        self.placed[word] = place
        return word

    def found_in(self, *hay: bytes) -> set[str]:
        """The places whose canary is in some of these bytes."""
        return {self.placed[word] for word in self.placed if any(word.encode() in part.lower() for part in hay)}


def everywhere(caplog, capfd) -> dict[str, list[bytes]]:
    """Everything there is, with what is sealed or packed opened as far as that is possible.

    "output" is what this process and those that it started (gateway, models) wrote since the last search.
    """
    stored = [path for path in Path(site.STORAGE_DIR).rglob("*") if path.is_file()]
    return {
        "database": [*tables().values(), *_unsealed()],
        "storage": [part for path in stored for part in (str(path).encode(), *_unpacked(path))],
        "tiles": _tiles(),
        "redis": _redis(),
        "log": [caplog.text.encode()],
        "log of the database": [Path(os.environ["DATABASE_LOG"]).read_bytes()],
        "output": [part.encode() for part in capfd.readouterr()],
        "public log": [json.dumps(row.public).encode() for row in ledger.entries(0, ledger.log_size())],
    }


class Digests:
    """The SHA-256 digests that these bytes hold: as they are, in hexadecimal, or in base64."""

    def __init__(self, hay: Iterable[bytes]) -> None:
        told = b"\n".join(hay)
        self._written = {bytes.fromhex(one.decode()) for one in re.findall(rb"(?=([0-9a-f]{64}))", told.lower())}
        runs = re.findall(rb"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43}=", told)
        self._written |= {base64.b64decode(one) for one in runs}
        # Every eight bytes that follow each other: of a digest that is there, the first eight are among them.
        self._plain = np.unique(
            np.concatenate(
                [np.frombuffer(told[start : start + (len(told) - start) // 8 * 8], dtype=">u8") for start in range(8)]
            )
        )

    def among(self, digests: Iterable[bytes]) -> set[bytes]:
        """Those of these digests that are there."""
        asked = list(digests)
        heads = np.array([int.from_bytes(one[:8], "big") for one in asked], dtype="u8")
        plain = np.isin(heads, self._plain)
        return {one for one, found in zip(asked, plain, strict=True) if found or one in self._written}


def tables() -> dict[str, bytes]:
    """A dump of every table, as COPY writes it; bytes also as what they are, not only as hexadecimal."""
    found = {}
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")
        for (name,) in cursor.fetchall():
            out = io.StringIO()
            cursor.copy_expert(f'COPY "{name}" TO STDOUT', out)
            text = out.getvalue()
            hidden = [bytes.fromhex(one) for one in re.findall(r"\\\\x((?:[0-9a-f]{2})+)", text)]
            found[name] = b"\n".join([text.encode(), *hidden])
    return found


def _unsealed() -> list[bytes]:
    """What the site's own keys open. (The outbox: test_what_finished_work_needed_is_forgotten.)"""
    found = []
    for row in CallContent.objects.exclude(sealed_key=None):
        found.append(content.open_sealed(site.CONTENT_KEY, row.call_id, bytes(row.sealed), bytes(row.sealed_key)))
    text = b"\n".join(tables().values()).decode("latin-1")
    return found + [listings.open_field(token).encode() for token in set(re.findall(r"gAAAA[\w=-]{60,}", text))]


def _unpacked(path: Path) -> list[bytes]:
    """A stored file; of a Parquet file, whose columns are packed, also its rows."""
    found = path.read_bytes()
    return [found, repr(pq.read_table(path).to_pylist()).encode()] if found.startswith(b"PAR1") else [found]


def _tiles() -> list[bytes]:
    """The public log as files: entries, hashes, heads."""
    folder = Path(site.LOG_DIR)
    Publication(folder).complete()
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def _redis() -> list[bytes]:
    """Keys and values, read by their kind: a dump may be packed, and hides a word that stands in it twice."""
    client = cache._cache.get_client()  # Django names no other way to the connection
    read = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"hash": client.hgetall,
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
    }
    return [part for key in client.scan_iter() for part in (key, repr(read[client.type(key)](key)).encode())]


def unwritten(canary: Canaries) -> list[str]:
    """The text fields that hold no canary and are not known as never personal, and those known that hold one."""
    found = []
    for model in apps.get_models():
        label = f"{model._meta.app_label}.{model.__name__}"
        for field in model._meta.concrete_fields:
            if not _is_text(field):
                continue
            known = {model._meta.app_label, label, f"{label}.{field.name}"} & set(NEVER_PERSONAL)
            values = [str(value).encode() for value in model._default_manager.values_list(field.name, flat=True)]
            written = canary.found_in(*values, *_unsealed_values(values))
            if bool(known) == bool(written):
                found.append(f"{label}.{field.name}: {'holds ' + str(written) if written else 'holds no canary'}")
    return found


def _unsealed_values(values: list[bytes]) -> list[bytes]:
    return [listings.open_field(value.decode()).encode() for value in values if value.startswith(b"gAAAA")]


def _is_text(field) -> bool:
    if isinstance(field, ArrayField):
        return _is_text(field.base_field)
    return isinstance(field, models.CharField | models.TextField | models.JSONField) and not field.choices
