"""What must be true of traces, lines and epochs, recomputed by SQL. Imports nothing of the code it verifies."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass

from django.db import connection, transaction


@dataclass(frozen=True)
class Failure:
    """The first row of its kind that breaks an invariant."""

    invariant: str
    row: str
    sentence: str


INVARIANTS = ("I6", "I10", "I11", "I13", "I14")

# What every check may read. leg: of the journal; charge: what a charge put into pools; covered: the charges of epochs;
# payee_line and said_line: who is paid for a charge by the lines and by its receipt; fee_artifact: behind an epoch's fees;
# refunded: what each account gave back of a charge, the lots of the charge itself and the platform's part apart; what an
# author gave back that had been a contributor's stands as that contributor's; earned: what a record earned, in which lot of
# its contributor; stake, noise: those of theft disputes, and of noise cases.
BOOKS = """
WITH leg AS (
    SELECT j.id, j.kind, j.reference, j.takes_from, a.code, u.amount, u.n
    FROM ledger_journal j, unnest(j.accounts, j.amounts) WITH ORDINALITY AS u(account_id, amount, n)
    JOIN ledger_account a ON a.id = u.account_id
), charge AS (
    SELECT id, split_part(kind, '_', 1) AS source, code, split_part(code, ':', 2) AS model_id,
           split_part(code, ':', 4) AS part, amount
    FROM leg WHERE kind IN ('call_charged', 'access_charged', 'training_charged') AND starts_with(code, 'pool:')
), covered AS (
    SELECT c.id::uuid AS id, e.id AS epoch_id, e.model_id, e.status
    FROM attribution_epoch e, jsonb_array_elements_text(e.charge_ids) AS c(id)
), payee_line AS (
    SELECT l.source_id AS id, coalesce('pending:' || l.payee_id, 'unattributed:' || e.model_id) AS payee,
           CASE WHEN l.payee_id IS NULL THEN 'unattributed' WHEN l.role = 'data' THEN 'contributor' ELSE 'curator' END
             AS role, l.reason AS item, sum(l.amount_nano) AS amount
    FROM attribution_line l JOIN attribution_epoch e ON e.id = l.epoch_id AND e.status = 'posted'
    GROUP BY 1, 2, 3, 4
), said_line AS (
    SELECT (o.public ->> 'charge')::uuid AS id, s ->> 'payee' AS payee, s ->> 'role' AS role, s ->> 'item' AS item,
           sum((s ->> 'amount')::bigint) AS amount
    FROM ledger_opening o, jsonb_array_elements(o.split) AS s WHERE o.type = 'call.attributed' GROUP BY 1, 2, 3, 4
), refunded AS (
    SELECT split_part(reference, ':', 2)::uuid AS id, coalesce('pending:' || t.payee_id, code) AS code,
           coalesce(t.settlement_id, takes_from) AS takes_from, -amount AS amount
    FROM leg LEFT JOIN (SELECT DISTINCT posting_id, settlement_id, payee_id FROM attribution_transfer) t
      ON t.posting_id = leg.takes_from
    WHERE kind = 'refund' AND starts_with(reference, 'refund:') AND n = 1 AND code <> 'platform:fees'
      AND takes_from IS DISTINCT FROM split_part(reference, ':', 2)::uuid
    -- What nobody was given by a noise case, and a refund took from there, stands as its contributor's.
    UNION ALL
    SELECT b.charge_id, u.code, u.takes_from, u.sign * b.amount_nano FROM attribution_transferreturn b
    JOIN attribution_transfer t ON t.id = b.transfer_id AND t.noise_id IS NOT NULL
    JOIN attribution_epoch e ON e.id = t.epoch_id,
         LATERAL (VALUES ('pending:' || t.payee_id, t.settlement_id, 1),
                         ('unattributed:' || e.model_id, NULL::uuid, -1)) AS u(code, takes_from, sign)
), fee_artifact AS (
    SELECT DISTINCT l.epoch_id, t.artifact_id FROM attribution_line l
    JOIN attribution_trace t ON t.charge_id = l.source_id WHERE l.source <> 'call' AND t.artifact_id IS NOT NULL
), earned AS (
    SELECT m.epoch_id, m.source, m.record_id, m.amount, e.model_id, p.id AS settlement_id, x.contributor_id, l.vested_at
    FROM (SELECT epoch_id, 'call' AS source, record_id, sum(amount_nano) AS amount FROM attribution_recordepoch
          WHERE payee_id IS NULL GROUP BY 1, 3
          UNION ALL
          SELECT epoch_id, source, record_id, amount_nano FROM attribution_recordfee WHERE payee_id IS NULL) m
    JOIN attribution_epoch e ON e.id = m.epoch_id
    JOIN datanets_record x ON x.id = m.record_id
    JOIN attribution_plannedposting p ON p.epoch_id = m.epoch_id AND split_part(p.moves -> 0 ->> 0, ':', 4) = 'data'
      AND split_part(p.moves -> 0 ->> 0, ':', 3) = CASE m.source WHEN 'call' THEN 'calls' ELSE m.source END
    JOIN ledger_account a ON a.code = 'pending:' || x.contributor_id
    JOIN ledger_lot l ON l.posting_id = p.id AND l.account_id = a.id
    WHERE m.amount > 0
), stake AS (
    SELECT d.id, d.status, d.opened_at, d.ended_at, least(d.ended_at, d.decide_by) AS until, m.*
    FROM datanets_theftdispute d JOIN datanets_disputedrecord r ON r.dispute_id = d.id
    JOIN earned m ON m.record_id = r.record_id
), noise AS (
    SELECT c.id, c.status, c.opened_at, c.ended_at, m.*
    FROM attribution_noisecase c JOIN attribution_noiserecord r ON r.case_id = c.id
    JOIN earned m ON m.record_id = r.record_id AND m.model_id = c.model_id
)
"""

CHECKS = (
    (
        "I6",
        "the lines of charge {0} add up to {1} nano, its part is {2}",
        """
        SELECT t.charge_id, coalesce(sum(l.amount_nano), 0), t.data_nano + t.curation_nano
        FROM attribution_trace t JOIN attribution_line l ON l.source_id = t.charge_id
        GROUP BY t.charge_id HAVING coalesce(sum(l.amount_nano), 0) <> t.data_nano + t.curation_nano
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "the data lines of charge {0} add up to {1} nano, its data part is {2}",
        """
        SELECT t.charge_id, sum(l.amount_nano), t.data_nano
        FROM attribution_trace t JOIN attribution_line l ON l.source_id = t.charge_id AND l.role = 'data'
        GROUP BY t.charge_id HAVING sum(l.amount_nano) <> t.data_nano ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "epoch {0} took in {1} nano, its lines pay {2}",
        """
        SELECT e.id, e.pool_nano, coalesce(sum(l.amount_nano), 0)
        FROM attribution_epoch e LEFT JOIN attribution_line l ON l.epoch_id = e.id
        WHERE e.status <> 'closed'
        GROUP BY e.id HAVING e.pool_nano <> coalesce(sum(l.amount_nano), 0) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "epoch {0} says it paid {1} and left {2} nano, its lines say otherwise",
        """
        SELECT e.id, e.paid_nano, e.unattributed_nano
        FROM attribution_epoch e LEFT JOIN attribution_line l ON l.epoch_id = e.id
        WHERE e.status <> 'closed' GROUP BY e.id
        HAVING e.paid_nano <> coalesce(sum(l.amount_nano) FILTER (WHERE l.payee_id IS NOT NULL), 0)
            OR e.unattributed_nano <> coalesce(sum(l.amount_nano) FILTER (WHERE l.payee_id IS NULL), 0)
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "the accuracy of curator {0} in epoch {1} is {2} millionths, its counts give {3}",
        """
        SELECT curator_id, epoch_id, accuracy_millionths, computed FROM (
            SELECT *, CASE WHEN gold_right + gold_wrong + stood + overturned < 10 THEN 1000000
                      ELSE 1000000::bigint * (gold_right + stood + 20)
                           / (gold_right + gold_wrong + stood + overturned + 20) END AS computed
            FROM attribution_curatoraccuracy) a
        WHERE accuracy_millionths <> computed ORDER BY 1, 2 LIMIT 1
        """,
    ),
    (
        # Each curator's own: what it takes goes to nobody else, to the nano that the largest remainders move.
        "I6",
        "charge {0} paid curators {1} nano, more than the {2} of its part that its records were paid of its data",
        """
        SELECT t.charge_id, l.total, t.curation_nano::numeric * d.total / t.data_nano FROM attribution_trace t
        JOIN (SELECT source_id, sum(amount_nano) AS total FROM attribution_line
              WHERE role = 'curation' AND payee_id IS NOT NULL GROUP BY 1) l ON l.source_id = t.charge_id
        JOIN (SELECT source_id, sum(amount_nano) AS total FROM attribution_line
              WHERE role = 'data' AND payee_id IS NOT NULL GROUP BY 1) d ON d.source_id = t.charge_id
        WHERE t.source = 'call' AND l.total * t.data_nano::numeric > t.curation_nano * d.total ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "the postings of epoch {0} move {1} nano, its lines pay {2}",
        """
        SELECT e.id, coalesce(p.total, 0), e.pool_nano FROM attribution_epoch e
        LEFT JOIN (SELECT epoch_id, sum((m.move ->> 2)::bigint) AS total
                   FROM attribution_plannedposting, jsonb_array_elements(moves) AS m(move) GROUP BY 1) p ON p.epoch_id = e.id
        WHERE e.status <> 'closed' AND coalesce(p.total, 0) <> e.pool_nano ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "the trace of charge {0} divides {1} and {2} nano, the books put {3} and {4} into the pools of its model",
        """
        SELECT t.charge_id, t.data_nano, t.curation_nano, coalesce(c.data, 0), coalesce(c.curation, 0)
        FROM attribution_trace t LEFT JOIN (
            SELECT id, source, model_id, sum(amount) FILTER (WHERE part = 'data') AS data,
                   sum(amount) FILTER (WHERE part = 'curation') AS curation
            FROM charge GROUP BY 1, 2, 3) c
          ON c.id = t.charge_id AND c.source = t.source AND c.model_id = t.model_id::text
        WHERE (t.data_nano, t.curation_nano) IS DISTINCT FROM (coalesce(c.data, 0), coalesce(c.curation, 0))
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "settlement {0} moves {3} nano from {1} to {2} by its plan, and {4} in the books",
        """
        SELECT id, source, target, coalesce(p.amount, 0), coalesce(j.amount, 0)
        FROM (SELECT p.id, m ->> 0 AS source, m ->> 1 AS target, sum((m ->> 2)::bigint) AS amount
              FROM attribution_plannedposting p JOIN attribution_epoch e ON e.id = p.epoch_id AND e.status = 'posted',
                   jsonb_array_elements(p.moves) AS m GROUP BY 1, 2, 3) p
        FULL JOIN (SELECT t.id, s.code AS source, t.code AS target, t.amount FROM leg t
                   JOIN leg s ON s.id = t.id AND s.n = 1 WHERE t.kind = 'settlement' AND t.n > 1) j
          USING (id, source, target)
        WHERE p.amount IS DISTINCT FROM j.amount ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "{0} holds {1} nano, the charges that wait to be settled put {2} there",
        """
        SELECT code, sum(amount), sum(waiting) FROM (
            SELECT l.code, l.amount, 0 AS waiting FROM leg l WHERE starts_with(l.code, 'pool:')
            UNION ALL
            SELECT c.code, 0, c.amount FROM charge c
            WHERE NOT EXISTS (SELECT FROM covered e WHERE e.id = c.id AND e.status = 'posted')
            UNION ALL
            SELECT r.code, 0, -r.amount FROM refunded r WHERE starts_with(r.code, 'pool:')
              AND NOT EXISTS (SELECT FROM covered e WHERE e.id = r.id AND e.status = 'posted')) both_sides
        GROUP BY code HAVING sum(amount) <> sum(waiting) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # Before its plan the pools give it back, and it has no lines; afterwards each payee gives back their lines.
        "I6",
        "{1} gave back {2} nano of charge {0}, it had received {3} of it",
        """
        SELECT id, code, coalesce(r.amount, 0), coalesce(p.amount, 0)
        FROM (SELECT id, code, sum(amount) AS amount FROM refunded GROUP BY 1, 2 HAVING sum(amount) <> 0) r
        FULL JOIN (SELECT c.id, c.code, c.amount FROM charge c
                   JOIN attribution_reversal v ON v.charge_id = c.id AND NOT v.was_settled
                   UNION ALL
                   SELECT l.id, l.payee, sum(l.amount) FROM payee_line l
                   JOIN attribution_reversal v ON v.charge_id = l.id AND v.was_settled GROUP BY 1, 2) p USING (id, code)
        WHERE r.amount IS DISTINCT FROM p.amount ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "charge {0} was given back before its epoch was planned, and yet has lines over {1} nano",
        """
        SELECT v.charge_id, sum(l.amount_nano) FROM attribution_reversal v
        JOIN attribution_line l ON l.source_id = v.charge_id WHERE NOT v.was_settled GROUP BY 1 ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "{1} gave back {2} nano of charge {0} out of a lot that its settlement did not make",
        """
        SELECT r.id, r.code, r.amount FROM refunded r WHERE starts_with(r.code, 'pending:')
          AND NOT EXISTS (SELECT FROM attribution_plannedposting p JOIN covered e ON e.epoch_id = p.epoch_id
                          WHERE p.id = r.takes_from AND e.id = r.id)
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # One that put nothing into a pool, as of a model that no Datanet shaped, may be in none.
        "I6",
        "charge {0} stands before the last cut and is in {1} epochs of its model",
        """
        SELECT l.entry_id, count(e.id) FROM ledger_leaf l
        LEFT JOIN covered e ON e.id = l.entry_id AND e.model_id::text = l.body ->> 'model_id'
        WHERE l.type IN ('call.charged', 'access.charged', 'training.charged')
          AND l.index < (SELECT max(end_leaf) FROM attribution_cut)
        GROUP BY 1 HAVING count(e.id) > 1 OR (count(e.id) = 0 AND l.entry_id IN (SELECT id FROM charge))
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # The sequencer posts a plan within seconds: after an hour it is refused, not late.
        "I6",
        "epoch {0} is planned since {1} and not posted",
        """
        SELECT id, date_trunc('second', planned_at) FROM attribution_epoch
        WHERE status = 'planned' AND planned_at < clock_timestamp() - make_interval(secs => 3600) ORDER BY 2 LIMIT 1
        """,
    ),
    (
        # Missing traces hold a plan up for a day, damaged files of an artifact until somebody restores them.
        "I6",
        "epoch {0} was closed at {1} and is not planned; the log of the workers says why",
        """
        SELECT id, date_trunc('second', closed_at) FROM attribution_epoch
        WHERE status = 'closed' AND closed_at < clock_timestamp() - interval '26 hours' ORDER BY 2 LIMIT 1
        """,
    ),
    (
        "I6",
        "the public log says something else of epoch {0} than its row, or nothing",
        """
        SELECT e.id FROM attribution_epoch e LEFT JOIN ledger_fact f ON f.id = e.id
        LEFT JOIN ledger_leaf l ON l.entry_id = e.id
        WHERE e.status = 'posted' AND (f.id IS NULL OR l.index IS NOT NULL AND
              (l.body ->> 'model_id', l.body ->> 'epoch', l.body ->> 'pool', l.body ->> 'paid',
               l.body ->> 'unattributed', l.body ->> 'lines_root', l.body -> 'equally') IS DISTINCT FROM
              (e.model_id::text, e.number::text, e.pool_nano::text, e.paid_nano::text, e.unattributed_nano::text,
               e.lines_root, (
                   SELECT coalesce(jsonb_agg(jsonb_build_object(
                              'version', f.key, 'card', c.number, 'below', f.value -> 'below') ORDER BY f.key), '[]')
                   FROM jsonb_each(e.cards) f JOIN attribution_scorecard c ON c.id = (f.value ->> 'card')::bigint
                   WHERE f.value -> 'below' <> '[]')))
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # What was erased cannot be compared any more; that the entry exists can.
        "I6",
        "the receipt of charge {0} pays {1} as {2} {3} nano, its lines {4}",
        """
        SELECT id, payee, role, coalesce(s.amount, 0), coalesce(l.amount, 0) FROM payee_line l
        FULL JOIN said_line s USING (id, payee, role, item)
        WHERE s.amount IS DISTINCT FROM l.amount
          AND (s.id IS NOT NULL OR EXISTS (SELECT FROM said_line o WHERE o.id = l.id)
               OR NOT EXISTS (SELECT FROM ledger_fact f WHERE f.reference = 'attributed:' || l.id))
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # Every record is kept where there are at most 20, else the 20 largest.
        "I6",
        "the {1} kept records of charge {0} were paid {2} nano, its {3} records {4}",
        """
        SELECT source_id, coalesce(r.kept, 0), coalesce(r.total, 0), coalesce(l.records, 0), coalesce(l.total, 0)
        FROM (SELECT source_id, sum(amount_nano) AS total, sum(record_count) AS records FROM attribution_line
              WHERE role = 'data' AND payee_id IS NOT NULL GROUP BY 1) l
        FULL JOIN (SELECT source_id, sum(amount_nano) AS total, count(*) AS kept FROM attribution_recordline
                   GROUP BY 1) r USING (source_id)
        WHERE coalesce(r.kept, 0) <> least(coalesce(l.records, 0), 20) OR coalesce(r.total, 0) > coalesce(l.total, 0)
           OR (coalesce(l.records, 0) <= 20 AND r.total IS DISTINCT FROM l.total)
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "the records of epoch {0} got {1} nano of its calls, their contributors {2}",
        """
        SELECT e.id, coalesce(r.total, 0), coalesce(l.total, 0) FROM attribution_epoch e
        LEFT JOIN (SELECT epoch_id, sum(amount_nano) AS total FROM attribution_recordepoch GROUP BY 1) r
          ON r.epoch_id = e.id
        LEFT JOIN (SELECT epoch_id, sum(amount_nano) AS total FROM attribution_line
                   WHERE role = 'data' AND payee_id IS NOT NULL AND source = 'call' GROUP BY 1) l ON l.epoch_id = e.id
        WHERE coalesce(r.total, 0) <> coalesce(l.total, 0) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # A plan takes off what calls had paid that were given back since the last one.
        "I6",
        "the records of epoch {0} gave {1} nano of refunded calls back, their contributors had {2}",
        """
        SELECT e.id, coalesce(r.total, 0), coalesce(l.total, 0) FROM attribution_epoch e
        LEFT JOIN (SELECT epoch_id, sum(given_back_nano) AS total FROM attribution_recordepoch GROUP BY 1) r
          ON r.epoch_id = e.id
        LEFT JOIN (SELECT v.netted_in_id AS epoch_id, sum(l.amount_nano) AS total FROM attribution_reversal v
                   JOIN attribution_line l ON l.source_id = v.charge_id AND l.role = 'data' AND l.payee_id IS NOT NULL
                   WHERE v.netted_in_id IS NOT NULL GROUP BY 1) l ON l.epoch_id = e.id
        WHERE coalesce(r.total, 0) <> coalesce(l.total, 0) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "the records of epoch {0} got {1} nano of its fees, their contributors {2}",
        """
        SELECT e.id, coalesce(f.total, 0), coalesce(l.total, 0) FROM attribution_epoch e
        LEFT JOIN (SELECT epoch_id, sum(amount_nano) AS total FROM attribution_recordfee GROUP BY 1) f ON f.epoch_id = e.id
        LEFT JOIN (SELECT epoch_id, sum(amount_nano) AS total FROM attribution_line
                   WHERE role = 'data' AND payee_id IS NOT NULL AND source <> 'call' GROUP BY 1) l ON l.epoch_id = e.id
        WHERE coalesce(f.total, 0) <> coalesce(l.total, 0) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I6",
        "epochs {0} and its successor of model {1} overlap or leave a gap in their numbers ({2})",
        """
        SELECT e.id, e.model_id, e.number FROM attribution_epoch e
        LEFT JOIN attribution_epoch p ON p.model_id = e.model_id AND p.number = e.number - 1
        WHERE e.number > 1 AND (p.id IS NULL OR p.end_leaf > e.first_leaf) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # An hour for clocks that differ: one is the sequencer's, the other a worker's.
        "I6",
        "epoch {0} pays version {1} by the score card {2}, which is another version's, younger, or says something else",
        """
        SELECT e.id, f.key, f.value ->> 'card' FROM attribution_epoch e, jsonb_each(e.cards) AS f
        LEFT JOIN attribution_scorecard c ON c.id = (f.value ->> 'card')::bigint
        WHERE c.id IS NULL OR c.status <> 'done' OR c.model_version_id::text <> f.key OR c.below <> f.value -> 'below'
           OR c.done_at > e.closed_at + interval '1 hour'
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I10",
        "record {0} is a follower in version {1} and was paid {2} nano",
        """
        SELECT r.record_id, f.version_id, sum(r.amount_nano) FROM attribution_recordline r
        JOIN attribution_trace t ON t.charge_id = r.source_id
        JOIN attribution_artifact_versions av ON av.artifact_id = t.artifact_id
        JOIN datanets_versionfollower f ON f.version_id = av.version_id AND f.record_id = r.record_id
        GROUP BY 1, 2 HAVING sum(r.amount_nano) > 0 ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I10",
        "record {0} is a follower in model version {1} and earned {2} nano in epoch {3}",
        """
        SELECT r.record_id, r.model_version_id, r.amount_nano, r.epoch_id FROM attribution_recordepoch r
        WHERE r.amount_nano > 0 AND EXISTS (
            SELECT FROM attribution_trace t
            JOIN attribution_artifact_versions av ON av.artifact_id = t.artifact_id
            JOIN datanets_versionfollower f ON f.version_id = av.version_id
            WHERE t.model_version_id = r.model_version_id AND f.record_id = r.record_id)
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # A record may lead in one version and follow in another: it is wrong only where it follows in all of the epoch.
        "I10",
        "record {0} is a follower wherever epoch {1} had fees, and earned {2} nano of them",
        """
        SELECT r.record_id, r.epoch_id, r.amount_nano FROM attribution_recordfee r
        WHERE r.amount_nano > 0 AND NOT EXISTS (
            SELECT FROM fee_artifact a WHERE a.epoch_id = r.epoch_id AND NOT EXISTS (
                SELECT FROM attribution_artifact_versions av
                JOIN datanets_versionfollower f ON f.version_id = av.version_id
                WHERE av.artifact_id = a.artifact_id AND f.record_id = r.record_id))
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I11",
        "record {0} was withdrawn, and yet paid {2} nano for charge {1} after it",
        """
        SELECT r.record_id, r.source_id, r.amount_nano FROM attribution_recordline r
        JOIN attribution_trace t ON t.charge_id = r.source_id
        JOIN datanets_record d ON d.id = r.record_id
        WHERE d.withdrawn_at IS NOT NULL AND d.withdrawn_at <= t.charged_at AND r.amount_nano > 0 ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I13",
        "theft dispute {0} ran, and yet the lot of settlement {1} with money of its record {2} vested at {3}",
        """
        SELECT id, settlement_id, record_id, vested_at FROM stake WHERE vested_at > opened_at AND vested_at < until
        ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # Where a call of the epoch had been refunded before, less may have been left.
        "I13",
        "of record {1} {3} nano were pending in settlement {2} when theft dispute {0} was won, its author was given {4}",
        """
        SELECT s.id, s.record_id, s.settlement_id, s.amount, coalesce(t.amount_nano, 0) FROM stake s
        LEFT JOIN attribution_transfer t
          ON (t.dispute_id, t.record_id, t.epoch_id, t.source) = (s.id, s.record_id, s.epoch_id, s.source)
        WHERE s.status = 'won' AND (coalesce(t.amount_nano, 0) > s.amount
          OR (t.id IS NOT NULL AND s.vested_at < s.ended_at)
          OR (coalesce(t.amount_nano, 0) < s.amount AND (s.vested_at IS NULL OR s.vested_at > s.ended_at)
              AND NOT EXISTS (SELECT FROM attribution_transfer o WHERE o.noise_id IS NOT NULL
                              AND (o.record_id, o.epoch_id, o.source) = (s.record_id, s.epoch_id, s.source))
              AND NOT EXISTS (SELECT FROM attribution_reversal v JOIN covered c ON c.id = v.charge_id
                              WHERE c.epoch_id = s.epoch_id AND v.at < s.ended_at + interval '1 hour')))
        ORDER BY 1, 2 LIMIT 1
        """,
    ),
    (
        "I13",
        "posting {0} moved {2} nano to the author of records, its transfers say {1}",
        """
        SELECT coalesce(t.posting_id, j.id), coalesce(t.amount, 0), coalesce(j.amount, 0)
        FROM (SELECT posting_id, dispute_id::text AS dispute, settlement_id, 'pending:' || payee_id AS source,
                     'pending:' || author_id AS target, sum(amount_nano) AS amount
              FROM attribution_transfer WHERE dispute_id IS NOT NULL GROUP BY 1, 2, 3, 4, 5) t
        FULL JOIN (SELECT s.id, split_part(s.reference, ':', 2) AS dispute, s.takes_from, s.code AS source,
                          g.code AS target, g.amount
                   FROM leg s JOIN leg g ON g.id = s.id AND g.n > 1
                   WHERE s.n = 1 AND s.kind = 'adjustment' AND starts_with(s.reference, 'theft:')) j
          ON j.id = t.posting_id
        WHERE (t.dispute, t.settlement_id, t.source, t.target, t.amount)
              IS DISTINCT FROM (j.dispute, j.takes_from, j.source, j.target, j.amount) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I13",
        "refunds took {2} nano out of what posting {0} had given an author, its transfers say {1}",
        """
        SELECT t.posting_id, t.given_back, coalesce(r.amount, 0)
        FROM (SELECT t.posting_id, coalesce(sum(b.amount_nano), 0) AS given_back FROM attribution_transfer t
              LEFT JOIN attribution_transferreturn b ON b.transfer_id = t.id
              WHERE t.dispute_id IS NOT NULL GROUP BY 1) t
        LEFT JOIN (SELECT takes_from, -sum(amount) AS amount FROM leg WHERE kind = 'refund' AND n = 1 GROUP BY 1) r
          ON r.takes_from = t.posting_id
        WHERE t.given_back <> coalesce(r.amount, 0) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # An hour for clocks that differ: one is the books', the other the worker's that planned.
        "I13",
        "record {0} paid {1} in epoch {2}; its author by a won theft dispute is {3}",
        """
        SELECT m.record_id, coalesce(m.payee_id, x.contributor_id), m.epoch_id, w.claimant_id
        FROM (SELECT epoch_id, record_id, payee_id, amount_nano FROM attribution_recordepoch
              UNION ALL
              SELECT epoch_id, record_id, payee_id, amount_nano FROM attribution_recordfee) m
        JOIN datanets_record x ON x.id = m.record_id JOIN attribution_epoch e ON e.id = m.epoch_id
        LEFT JOIN (SELECT r.record_id, d.claimant_id, d.ended_at FROM datanets_disputedrecord r
                   JOIN datanets_theftdispute d ON d.id = r.dispute_id AND d.status = 'won') w ON w.record_id = m.record_id
        WHERE m.payee_id IS NOT NULL AND m.payee_id IS DISTINCT FROM w.claimant_id
           OR m.payee_id IS NULL AND e.planned_at > w.ended_at + interval '1 hour' ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I14",
        "noise case {0} ran, and yet the lot of settlement {1} with money of its record {2} vested at {3}",
        """
        SELECT id, settlement_id, record_id, vested_at FROM noise
        WHERE vested_at > opened_at AND vested_at < coalesce(ended_at, 'infinity') ORDER BY 1 LIMIT 1
        """,
    ),
    (
        # Where a call of the epoch was refunded, less may have been left; what a theft dispute moved is its author's.
        "I14",
        "of record {1} {3} nano were pending in settlement {2} when noise case {0} ended, {4} of them went to nobody",
        """
        SELECT n.id, n.record_id, n.settlement_id, n.amount, coalesce(t.amount_nano, 0) FROM noise n
        LEFT JOIN attribution_transfer t
          ON (t.record_id, t.epoch_id, t.source) = (n.record_id, n.epoch_id, n.source) AND t.noise_id = n.id
        WHERE n.status = 'returned' AND (coalesce(t.amount_nano, 0) > n.amount
          OR (t.id IS NOT NULL AND n.vested_at < n.ended_at)
          OR (coalesce(t.amount_nano, 0) < n.amount AND n.vested_at > n.ended_at
              AND NOT EXISTS (SELECT FROM attribution_transfer o WHERE o.dispute_id IS NOT NULL
                              AND (o.record_id, o.epoch_id, o.source) = (n.record_id, n.epoch_id, n.source))
              AND NOT EXISTS (SELECT FROM attribution_reversal v JOIN covered c ON c.id = v.charge_id
                              WHERE c.epoch_id = n.epoch_id)))
        ORDER BY 1, 2 LIMIT 1
        """,
    ),
    (
        "I14",
        "posting {0} moved {2} nano to nobody for a noise case, its transfers say {1}",
        """
        SELECT coalesce(t.posting_id, j.id), coalesce(t.amount, 0), coalesce(j.amount, 0)
        FROM (SELECT t.posting_id, t.noise_id::text AS noise, t.settlement_id, 'pending:' || t.payee_id AS source,
                     'unattributed:' || c.model_id AS target, sum(t.amount_nano) AS amount
              FROM attribution_transfer t JOIN attribution_noisecase c ON c.id = t.noise_id AND c.status = 'returned'
              GROUP BY 1, 2, 3, 4, 5) t
        FULL JOIN (SELECT s.id, split_part(s.reference, ':', 2) AS noise, s.takes_from, s.code AS source,
                          g.code AS target, g.amount
                   FROM leg s JOIN leg g ON g.id = s.id AND g.n > 1
                   WHERE s.n = 1 AND s.kind = 'adjustment' AND starts_with(s.reference, 'noise:')) j
          ON j.id = t.posting_id
        WHERE (t.noise, t.settlement_id, t.source, t.target, t.amount)
              IS DISTINCT FROM (j.noise, j.takes_from, j.source, j.target, j.amount) ORDER BY 1 LIMIT 1
        """,
    ),
    (
        "I14",
        "noise case {0} was decided by {1}, who approved its record {2}",
        """
        SELECT c.id, v.curator_id, v.record_id FROM attribution_noisecase c
        JOIN attribution_noiserecord r ON r.case_id = c.id
        JOIN datanets_review v ON v.record_id = r.record_id AND v.decision = 'approve' AND v.undone_at IS NULL
          AND v.curator_id IN (c.decided_by_id, c.second_by_id) AND v.decided_at < c.opened_at
        ORDER BY 1 LIMIT 1
        """,
    ),
)


def failures() -> list[Failure]:
    """Run every check; each that fails names its first wrong row. An empty list means all is well."""
    found = []
    for invariant, sentence, query in CHECKS:
        with transaction.atomic(), connection.cursor() as cursor:
            # Each check reads everything, and the planner cannot guess how many rows stand behind a WITH or an array: row by
            # row, some checks of a million calls would take days.
            cursor.execute("SET LOCAL enable_nestloop = off")
            cursor.execute(BOOKS + query)
            row = cursor.fetchone()
        if row is not None:
            found.append(Failure(invariant=invariant, row=str(row[0]), sentence=sentence.format(*row)))
    return [*found, *_root_failures(), *_accuracy_failures()]


def _root_failures() -> Iterator[Failure]:
    """I6: the lines of an epoch hash to the root that the public log has of them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, lines_root, lines_secret FROM attribution_epoch WHERE status <> 'closed' ORDER BY id"
        )
        for epoch_id, stored, secret in cursor.fetchall():
            cursor.execute(
                """SELECT source_id, role, payee_id, reason, amount_nano FROM attribution_line
                   WHERE epoch_id = %s ORDER BY id""",
                [epoch_id],
            )
            hashes = [_leaf(bytes(secret), number, *line) for number, line in enumerate(cursor.fetchall())]
            if _root(hashes).hex() != stored:
                yield Failure("I6", str(epoch_id), f"the lines of epoch {epoch_id} do not hash to its root {stored}")


def _accuracy_failures() -> Iterator[Failure]:
    """I6: the accuracies that an epoch paid its curators by hash to what it kept of them when it was planned."""
    kept: dict[object, list] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT epoch_id, curator_id, datanet_id::text, gold_right, gold_wrong, stood, overturned, accuracy_millionths "
            "FROM attribution_curatoraccuracy"
        )
        for epoch_id, *row in cursor.fetchall():
            kept.setdefault(epoch_id, []).append(row)
        cursor.execute("SELECT id, accuracy_sha256 FROM attribution_epoch WHERE status <> 'closed' ORDER BY id")
        for epoch_id, stored in cursor.fetchall():
            said = json.dumps(["curator-accuracy/1", sorted(kept.get(epoch_id, []))], separators=(",", ":"))
            if hashlib.sha256(said.encode()).hexdigest() != stored:
                yield Failure("I6", str(epoch_id), f"the accuracies of epoch {epoch_id} do not hash to its {stored}")


def _leaf(
    secret: bytes, number: int, source_id, role: str, payee_id: int | None, reason: str, amount_nano: int
) -> bytes:
    """The leaf of one line, as docs/receipt.md writes it: ASCII only, so this JSON is canonical."""
    name = f"line.{number}".encode()
    payee = "" if payee_id is None else f"pending:{payee_id}"
    said = {"amount": str(amount_nano), "item": reason, "payee": payee, "role": role, "source": str(source_id)}
    salt = hmac.digest(secret, name, "sha256")
    value = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    commitment = hashlib.sha256(b"open-commit/1\n" + name + b"\n" + salt + value).digest()
    return hashlib.sha256(b"\x00" + commitment).digest()


def _root(hashes: list[bytes]) -> bytes:
    """RFC 6962's recursion, from the leaves upwards: a lone last node goes up as it is."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    while len(hashes) > 1:
        pairs = [hashes[at : at + 2] for at in range(0, len(hashes), 2)]
        hashes = [hashlib.sha256(b"\x01" + b"".join(pair)).digest() if len(pair) == 2 else pair[0] for pair in pairs]
    return hashes[0]
