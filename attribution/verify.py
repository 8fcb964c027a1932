"""What must be true of traces, lines and epochs, recomputed by SQL. Imports nothing of the code it verifies."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection


@dataclass(frozen=True)
class Failure:
    """The first row of its kind that breaks an invariant."""

    invariant: str
    row: str
    sentence: str


INVARIANTS = ("I6", "I10", "I11")

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
        "the records of call {0} were paid {1} nano, its payees {2}",
        """
        SELECT l.source_id, r.total, l.total
        FROM (SELECT source_id, sum(amount_nano) AS total, sum(record_count) AS records FROM attribution_line
              WHERE role = 'data' AND payee_id IS NOT NULL GROUP BY 1) l
        JOIN (SELECT source_id, sum(amount_nano) AS total, count(*) AS kept FROM attribution_recordline GROUP BY 1) r
          ON r.source_id = l.source_id
        WHERE r.total > l.total OR (r.kept = l.records AND r.total <> l.total) ORDER BY 1 LIMIT 1
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
        "I11",
        "record {0} was withdrawn, and yet paid {2} nano for charge {1} after it",
        """
        SELECT r.record_id, r.source_id, r.amount_nano FROM attribution_recordline r
        JOIN attribution_trace t ON t.charge_id = r.source_id AND t.source = 'call'
        JOIN datanets_record d ON d.id = r.record_id
        WHERE d.withdrawn_at IS NOT NULL AND d.withdrawn_at <= t.created_at AND r.amount_nano > 0 ORDER BY 1 LIMIT 1
        """,
    ),
)


def failures() -> list[Failure]:
    """Run every check; each that fails names its first wrong row. An empty list means all is well."""
    found = []
    with connection.cursor() as cursor:
        for invariant, sentence, query in CHECKS:
            cursor.execute(query)
            row = cursor.fetchone()
            if row is not None:
                found.append(Failure(invariant=invariant, row=str(row[0]), sentence=sentence.format(*row)))
    return found
