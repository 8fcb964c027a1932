"""The shop that bench/gateway.py buys from, and what its books must say afterwards."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import load
from bench.books import Books
from bench.ledger import deposit

if TYPE_CHECKING:
    from bench.stage import Stage

SELLER = "erin"  # of tests.gateway.shop
DEPOSIT_NANO = 10**14
POOR_CALLS = 100

# A call's row and its charge have one id. Each sentence is wrong of the rows that its query finds.
_WRONG = {
    "a call that was answered has not exactly one charge of its cost": """
        SELECT call.id FROM marketplace_call call LEFT JOIN ledger_journal posting
          ON posting.kind = 'call_charged' AND posting.reference = 'call:' || call.id
        WHERE call.status <> 'refused' GROUP BY call.id HAVING count(posting.id) <> 1 OR min(posting.id::text) <> call.id::text
          OR min(-posting.amounts[1]) <> call.cost_nano OR call.cost_nano <= 0""",
    "a charge has no call, or a refused one": """
        SELECT id FROM ledger_journal posting WHERE kind = 'call_charged'
          AND NOT EXISTS (SELECT FROM marketplace_call call WHERE call.id = posting.id AND status <> 'refused')""",
    "a hold is left": "SELECT id FROM ledger_hold WHERE closed_at IS NULL",
    "more is held or spent than there was": """
        SELECT account_id FROM ledger_spend WHERE held_nano <> 0 OR debited_nano > granted_nano""",
    "a buyer's wallet did not pay what its calls cost": """
        SELECT account.code FROM ledger_account account JOIN ledger_spend spend ON spend.account_id = account.id
        WHERE account.code LIKE 'wallet:%' AND spend.debited_nano <>
          (SELECT coalesce(sum(cost_nano), 0) FROM marketplace_call WHERE 'wallet:' || buyer_id = account.code)""",
}


@dataclass
class Poor:
    """A buyer whose money runs out: how many calls were answered, and how many not, by status."""

    answered: int
    refused: dict[int, int]


def open_shop(upstream_url: str, *, buyers: int) -> list[str]:
    """List the two models of the upstream; returns the keys of so many buyers with money."""
    from ledger import chart, sequencer
    from ledger import services as ledger
    from tests.gateway import shop

    for model in ("fast", "slow"):
        shop.connected_model(model, upstream_url)
    people = [shop.person(f"buyer{number}") for number in range(buyers)]
    postings = []
    for buyer in people:
        id = ledger.new_id()
        moves = [ledger.Move(chart.WORLD, chart.wallet(buyer.pk), DEPOSIT_NANO)]
        postings.append(ledger.Posting(id=id, kind=ledger.Kind.DEPOSIT, reference=f"deposit:{id}", moves=moves))
    ledger.post_many(postings)
    while sequencer.fold():
        pass
    return [shop.make_key(buyer) for buyer in people]


def poor_buyer(on: Stage) -> Poor:
    """Let 128 clients spend a wallet that holds what POOR_CALLS calls cost."""
    from bench.stage import put
    from ledger import chart
    from tests.gateway import shop

    [(cost_nano,)] = on.site.ask("SELECT DISTINCT cost_nano FROM marketplace_call WHERE cost_nano > 0")
    buyer = shop.person("poor")
    deposit(chart.wallet(buyer.pk), POOR_CALLS * cost_nano)
    request = load.request(f"{SELLER}/fast", key=shop.make_key(buyer))
    done = put(on.ours, [request], clients=128, seconds=1, refused=[402])
    return Poor(done.succeeded, dict(done.failed))


def check(site: Books, *, receipts: Sequence[str], poor: Poor) -> None:
    """End the run, naming what is wrong, unless each receipt is one charged call and the books are in order."""
    from ledger import sequencer, verify

    while sequencer.fold():
        pass
    while sequencer.log(5000):
        pass
    sequencer.sign_and_witness()
    charged = {row[0] for row in site.ask("SELECT id::text FROM marketplace_call WHERE cost_nano > 0")}
    wrong = [f"{id} was answered {times} times" for id, times in Counter(receipts).items() if times > 1]
    wrong += [f"{id} was answered and not charged" for id in set(receipts) - charged]
    wrong += [f"{id} was charged and not answered" for id in charged - set(receipts)]
    wrong += [f"{sentence}: {row[0]}" for sentence, query in _WRONG.items() for row in site.ask(query)]
    wrong += [failure.sentence for failure in verify.failures()]
    if not 0 < poor.answered <= POOR_CALLS:
        wrong.append(f"{poor.answered} calls of a wallet for {POOR_CALLS} were answered")
    if wrong:
        print("\n".join(wrong[:20]))
        sys.exit(f"{len(wrong)} wrong")
