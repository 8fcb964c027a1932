"""The steps of the one loop that moves the books forward. A marketplace command calls them; each returns how much it did.

Each step is safe to run twice at once: it takes its rows under a lock, or its cursor. Due times are columns, so an hour
in which no sequencer ran is caught up. None of them needs Celery or Redis; `relay` only rings.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus

from django.conf import settings
from django.db import transaction

from ledger import commitments, database, holds, keys, lots, merkle, notes, outbox, strict, witness
from ledger import log as public_log
from ledger.errors import BehindWitness, OutOfStep
from ledger.models import Cosignature

logger = logging.getLogger(__name__)

#: How long a witness that did not answer is left alone, so that it does not slow the loop down.
WITNESS_PAUSE_S = 10.0
_ask_again_at: dict[str, float] = {}
#: Seconds after which a step counts as late.
LATE_S = {"fold_s": 10, "log_s": 10, "unwitnessed_s": 60, "outbox_s": 600}


def step(*, ring: Callable[[str, Sequence[str]], object] = outbox.ring) -> dict[str, int]:
    """Run one round of all steps. Returns what each did."""
    return {
        "expired": expire(),
        "folded": fold(),
        "vested": vest(),
        "logged": log(),
        "cosigned": sign_and_witness(),
        "relayed": relay(ring=ring),
    }


def fold(limit: int = 5000) -> int:
    """Count the credits of committed postings: entries, positions, lots. Returns how many postings.

    A posting waits while any transaction older than it is open, in any database of the cluster; `lag` tells.
    """
    return database.value("SELECT ledger_fold(%s)", limit)


def log(limit: int = 1000) -> int:
    """Give postings and facts their leaves in the public log. Returns how many."""
    with transaction.atomic():
        found = database.rows(
            """SELECT index, id, at, secret, type, public::text, private::text, split::text
               FROM ledger_next_entries(%s) ORDER BY index""",
            limit,
        )
        if not found:
            return 0
        first, entries = found[0][0], [_entry(*row[1:]) for row in found]
        hashes = [commitments.leaf_hash(entry) for entry in entries]
        neighbours = [(level, (first >> level) - 1) for level in range(first.bit_length()) if first >> level & 1]
        _leaves, *inner_runs = merkle.new_nodes(first, hashes, public_log.stored(neighbours))
        kept = list(merkle.positions([run for run in inner_runs if run.level % merkle.KEPT_EVERY == 0]))
        return database.value(
            "SELECT ledger_append(%s, %s::uuid[], %s, %s::jsonb[], %s::bytea[], %s::int[], %s::bigint[], %s::bytea[])",
            first,
            [row[1] for row in found],
            [entry["type"] for entry in entries],
            [database.as_json(commitments.body_of(entry)) for entry in entries],
            hashes,
            *([node[part] for node in kept] for part in range(3)),
        )


def sign_and_witness() -> int:
    """Sign a head over the newest leaves, keep it, and ask the witnesses that have not cosigned it.

    Two sequencers cannot sign two heads of one size: the second one's head is refused, and it asks for the first's.

    Returns:
        How many cosignatures were added.

    Raises:
        BehindWitness: a witness knows a head that this log does not extend. Nothing more should be signed.
    """
    size = public_log.log_size()
    newest = public_log.head(quorum=False)
    if size > newest.size:
        root = public_log.root(size)
        note = notes.sign_checkpoint(notes.checkpoint_text(settings.LOG_ORIGIN, size, root), *keys.signing_keys())
        try:
            # Committed here, before a witness or a reader sees it: whatever dies now, no other head is signed.
            with transaction.atomic(durable=True):
                database.rows("SELECT ledger_sign(%s, %s, %s)", size, root, note)
        except OutOfStep:
            logger.info("another sequencer signed a head of size %s", size)
        newest = public_log.head(quorum=False)
    added = 0
    for asked in settings.WITNESSES if newest.size else []:
        name = notes.decode_vkey(asked["vkey"]).name
        if name in newest.cosigned_by or time.monotonic() < _ask_again_at.get(asked["url"], 0):
            continue
        last = Cosignature.objects.filter(witness=name).order_by("-size_id").values_list("size_id", flat=True).first()
        line = _ask(asked, last or 0, newest.size, newest.note)
        if line:
            database.rows("SELECT ledger_cosign(%s, %s, %s)", newest.size, name, line)
            added += 1
    return added


def check_not_behind_witness() -> None:
    """Refuse to start on a database that was restored from before the last witnessed head. Raises BehindWitness.

    A witness that does not answer cannot be asked; `sign_and_witness` raises as soon as it does. Fewer than the quorum is an
    error in the log: `publication.check_not_behind_published` is then all that remembers.
    """
    newest = public_log.head(quorum=False)
    text = notes.checkpoint_text(settings.LOG_ORIGIN, newest.size, newest.root)
    note = newest.note or notes.sign_checkpoint(text, *keys.signing_keys())
    # "Extends itself" is true for a witness only if this is its own last head.
    answered = [asked for asked in settings.WITNESSES if _ask(asked, newest.size, newest.size, note)]
    if len(answered) < settings.WITNESS_QUORUM:
        logger.error(
            "%s of %s witnesses answered, %s are needed: nobody can say for sure that this database is the newest copy",
            len(answered),
            len(settings.WITNESSES),
            settings.WITNESS_QUORUM,
        )


def vest(limit: int = 1000) -> int:
    """Move lots that are due and not held from pending to wallet. Returns how many."""
    return lots.vest_due(limit)


def expire(limit: int = 500) -> int:
    """Close holds past their time. Returns how many."""
    return holds.expire_holds(limit)


def relay(limit: int = 200, *, ring: Callable[[str, Sequence[str]], object] = outbox.ring) -> int:
    """Ring for outbox rows that are due: at once, then after 5 s, 30 s, 2 min, 10 min and every 30 min until done.

    Args:
        limit: At most so many rows.
        ring: What is called with a topic and the references of up to `outbox.ROWS_A_BELL` rows of it.

    Returns:
        For how many it was rung. A broker that does not answer ends the round; its rows come again.
    """
    rung = 0
    for topic, references in outbox.bells(outbox.take_due(limit)):
        try:
            ring(topic, references)
        except outbox.BROKER_IS_AWAY as error:
            logger.warning("the broker does not answer (%s); %s will be rung again: %s", error, topic, references)
            break
        rung += len(references)
    return rung


def lag() -> dict[str, float]:
    """Measure how far each step is behind: rows (counted up to 100,000) and the age in seconds of the oldest one."""
    # The first leaf without a quorum has waited since the first head that covers it was signed, or is not signed yet.
    found = database.rows(
        """WITH fold AS (
             SELECT j.at FROM ledger_journal j, ledger_cursor c
             WHERE c.name = 'fold' AND (j.xid, j.id) > (c.xid, c.posting) LIMIT 100000
           ), postings AS (
             SELECT j.at FROM ledger_journal j, ledger_cursor c
             WHERE c.name = 'log' AND (j.xid, j.id) > (c.xid, c.posting) LIMIT 100000
           ), facts AS (
             SELECT f.at FROM ledger_fact f, ledger_cursor c
             WHERE c.name = 'log' AND (f.xid, f.id) > (c.xid, c.posting) LIMIT 100000
           ), heads AS (
             SELECT signed_at AS at FROM ledger_checkpoint WHERE %s > 0 AND size > coalesce((
               SELECT size FROM ledger_cosignature GROUP BY size HAVING count(*) >= %s ORDER BY size DESC LIMIT 1), 0)
           )
           SELECT step, count(*), extract(epoch FROM clock_timestamp() - min(at))::float FROM (
             SELECT 'fold' AS step, at FROM fold UNION ALL SELECT 'log', at FROM postings
             UNION ALL SELECT 'log', at FROM facts UNION ALL SELECT 'unwitnessed', at FROM heads
             UNION ALL SELECT 'outbox', created_at FROM ledger_outbox WHERE done_at IS NULL) waiting
           GROUP BY step""",
        settings.WITNESS_QUORUM,
        settings.WITNESS_QUORUM,
    )
    rows = {step: count for step, count, _seconds in found}
    seconds = {step: age_s for step, _count, age_s in found}
    counted = {f"{step}_rows": rows.get(step, 0) for step in ("fold", "log", "outbox")}
    return counted | {name: seconds.get(name.removesuffix("_s"), 0) for name in LATE_S}


def report_late() -> list[str]:
    """Log an error for each step that is late, for whoever watches the logs. Returns their names."""
    behind = lag()
    late = [name for name, limit_s in LATE_S.items() if behind[name] > limit_s]
    for name in late:
        rows = behind.get(f"{name[:-2]}_rows")
        waiting = "" if rows is None else f"; {rows:.0f} rows wait"
        logger.error("%s is late: %.0f s, at most %s s are usual%s", name[:-2], behind[name], LATE_S[name], waiting)
    return late


def _ask(asked: dict, old_size: int, size: int, note: str) -> str:
    """Get one witness's line under our head; "" if it has none to give now. Raises BehindWitness."""
    for _ in range(2):  # the second time from the size that the witness names
        try:
            proof = merkle.consistency_proof(
                old_size, size, public_log.stored(merkle.required_nodes(merkle.consistency_proof, old_size, size))
            )
            lines = witness.cosign(asked["url"], old_size, proof, note)
            return notes.add_cosignatures(note, lines, [asked["vkey"]]).removeprefix(note)
        except witness.WitnessConflict as conflict:
            if conflict.size > size or conflict.size == old_size == size:
                raise BehindWitness(
                    f"{asked['url']} has cosigned a head of size {conflict.size} that is not ours (size {size}): this "
                    "database is an old copy, or its log was changed. Restore the newest copy."
                ) from conflict
            old_size = conflict.size
        except witness.WitnessRefused as refused:
            if refused.status == HTTPStatus.UNPROCESSABLE_ENTITY:
                # Our own proof fails only where the tree below it is not the one that the witness saw.
                raise BehindWitness(
                    f"{asked['url']} has cosigned a head of size {old_size} that this log of size {size} does not extend: this "
                    "database is an old copy that went on, or its log was changed. Restore the newest copy."
                ) from refused
            return _pause(asked, refused)
        except witness.WitnessUnreachable as error:
            return _pause(asked, error)
    return ""


def _pause(asked: dict, error: Exception) -> str:
    """Leave a witness alone for a while. Paid calls go on, receipts wait; `lag` shows for how long."""
    logger.warning("no cosignature from %s: %s", asked["url"], error)
    _ask_again_at[asked["url"]] = time.monotonic() + WITNESS_PAUSE_S
    return ""


def _entry(entry_id, at, secret, type, public, private, split) -> dict:
    public, private = database.from_json(public), database.from_json(private)
    split = None if split is None else database.from_json(split)
    hour = commitments.hour_of(at)
    try:
        return commitments.build_entry(type, str(entry_id), hour, public, private, split, bytes(secret))
    except strict.Malformed as error:
        # Only SQL that passes by `Entry.check` gets here. The posting is real, so it is logged as a plain one: a
        # malformed description must not keep everything after it out of the log.
        opening = public_log.plain_opening(entry_id)
        if opening is None:
            raise
        logger.error("entry %s is logged as a plain posting: %s", entry_id, error)
        public, private = opening.public or {}, opening.private or {}
        return commitments.build_entry(
            public_log.POSTING_MADE, str(entry_id), hour, public, private, None, bytes(secret)
        )
