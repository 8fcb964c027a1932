"""What the books must say once whoever served paid calls was killed: read afterwards, with nobody else at work."""

from __future__ import annotations

from collections import Counter

from bench.callers import Heard


def judge(heard: Heard, granted_nano: dict[int, int]) -> list[str]:
    """Everything that is wrong, as sentences."""
    from attribution import explain
    from ledger import chart
    from ledger import services as ledger
    from marketplace import reaping
    from marketplace.models import Call as Row
    from tests import books as test_books
    from tests.shop import nothing_is_wrong, settle

    folding = test_books.Books("openledger")
    while reaping.Reaper(grace_s=0).reap():
        pass
    settle(folding)
    wrong = [f"{id} was answered {times} times" for id, times in Counter(heard.answered).items() if times > 1]
    rows = {str(row.pk): row for row in Row.objects.all()}
    charged = {id for id, row in rows.items() if row.cost_nano}
    wrong += [f"{id} was answered and not charged" for id in set(heard.answered) - charged]
    unasked = charged - set(heard.answered) - heard.dropped
    wrong += [f"{id} was charged, and nobody has its answer" for id in unasked]
    wrong += [
        f"{id} is {rows[id].status} and cost something"
        for id in charged
        if rows[id].status not in ("succeeded", "left")
    ]
    spent_nano: Counter[int] = Counter()
    for id in charged:
        posting = ledger.posting_of(id)
        if posting is None:
            wrong.append(f"{id} has no posting")
        if explain.status_of(id) != "posted":
            wrong.append(f"{id} is {explain.status_of(id)}")
        spent_nano[rows[id].buyer_id] += rows[id].cost_nano
    for pk, nano in granted_nano.items():
        balance = ledger.balance(chart.wallet(pk))
        if ledger.open_holds(chart.wallet(pk)):
            wrong.append(f"wallet:{pk} has something held")
        if balance.available_nano != nano - spent_nano[pk] or balance.available_nano < 0:
            wrong.append(f"wallet:{pk} had {nano}, its calls cost {spent_nano[pk]}, {balance.available_nano} are left")
    try:
        nothing_is_wrong()
    except AssertionError as found:
        wrong.append(str(found))
    return wrong
