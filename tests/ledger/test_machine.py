"""The money state machine: whatever order things happen in, repeated and late, the books agree with a Python model.

The usual run goes on to further seeds until everything has happened that must. A longer one, of another seed:

    MACHINE_RUNS=2000 MACHINE_SEED=7 python3 dev.py test -n 0 tests/ledger/test_machine.py
"""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from ledger import chart, sequencer, verify
from ledger import log as public_log
from ledger import services as ledger
from tests.ledger.builders import payment

#: A run in which one of these never happens shows less than it says.
MUST_HAPPEN = (
    *(
        "together",
        "drawn",
        "extend True",
        "extend InsufficientFunds",
        "extend HoldClosed",
        "expired",
        "fenced",
        "not fenced",
    ),
    *("vested", "not vested", "refunded", "released", "held folded", "held ahead"),
)
SEEDS_MAX = 5
users = st.integers(1, 3)
amounts = st.integers(1, 60)


@dataclass
class Lease:
    """An open hold. is_late: past its time."""

    account: str
    amount_nano: int
    rest_nano: int
    generation: int
    is_late: bool = False


@dataclass
class Lot:
    """What a posting into a pending account made, or will make once it is folded."""

    payee: int
    rest_nano: int
    is_folded: bool = False
    is_held: bool = False
    is_vested: bool = False


class Machine(RuleBasedStateMachine):
    """A model in a few dicts. Each run has wallets of its own, so that runs share one database."""

    postings = Bundle("postings")
    holds = Bundle("holds")
    earned = Bundle("earned")
    runs = 0
    superuser = None  # a session that lets time pass
    reached: Counter[str] = Counter()  # what really happened: a rule that finds nothing to do shows nothing

    def __init__(self) -> None:
        super().__init__()
        # What an earlier run has left, even one that failed, is none of this one's.
        while sequencer.expire() + sequencer.fold() + sequencer.vest() + sequencer.log():
            pass
        Machine.runs += 1
        self.base = Machine.runs * 10
        self.spendable: Counter[str] = Counter()
        self.unfolded: list[tuple[str, int]] = []
        self.reserved: dict[object, Lease] = {}
        self.lots: dict[object, Lot] = {}
        self.unlogged = 0

    def wallet(self, user: int) -> str:
        return chart.wallet(self.base + user)

    def pending(self, user: int) -> str:
        return chart.pending(self.base + user)

    def free(self, account: str) -> int:
        return self.spendable[account] - sum(
            lease.rest_nano for lease in self.reserved.values() if lease.account == account
        )

    def credit(self, account: str, amount_nano: int) -> None:
        """What a posting of one move does: its payee waits for the fold, all of it for the log."""
        self.unfolded.append((account, amount_nano))
        self.unlogged += 1

    @property
    def gateway(self) -> str:
        return f"machine:{self.base}"

    @initialize(amounts_nano=st.tuples(*[st.integers(0, 300)] * 3))
    def begin(self, amounts_nano):
        for user, amount_nano in enumerate(amounts_nano, 1):
            if amount_nano:
                self.deposit(user, amount_nano)
        self.fold()

    @rule(user=users, amount_nano=amounts)
    def deposit(self, user, amount_nano):
        ledger.post_many([payment(chart.WORLD, self.wallet(user), amount_nano, kind=ledger.Kind.DEPOSIT)])
        self.credit(self.wallet(user), amount_nano)

    @rule(target=postings, source=users, payee=users, amount_nano=amounts)
    def pay(self, source, payee, amount_nano):
        made = payment(self.wallet(source), chart.FEES if source == payee else self.wallet(payee), amount_nano)
        if self.free(self.wallet(source)) < amount_nano:
            with pytest.raises(ledger.InsufficientFunds):
                ledger.post_many([made])
            return multiple()
        assert ledger.post_many([made]) == {made.id}
        self.spendable[self.wallet(source)] -= amount_nano
        self.credit(made.moves[0].target, amount_nano)
        return made

    @rule(first=users, second=users, amounts_nano=st.tuples(amounts, amounts))
    def pay_together(self, first, second, amounts_nano):
        due = Counter({self.wallet(first): amounts_nano[0]})
        due[self.wallet(second)] += amounts_nano[1]
        batch = [
            payment(self.wallet(payer), chart.FEES, nano)
            for payer, nano in zip((first, second), amounts_nano, strict=True)
        ]
        if any(self.free(account) < nano for account, nano in due.items()):
            with pytest.raises(ledger.InsufficientFunds):
                ledger.post_many(batch)
            return
        assert ledger.post_many(batch) == {made.id for made in batch}
        assert ledger.post_many(batch[::-1]) == set()
        self.spendable.subtract(due)
        Machine.reached["together"] += 1
        for nano in amounts_nano:
            self.credit(chart.FEES, nano)

    @rule(made=postings)
    def repeat(self, made):
        assert ledger.post_many([made]) == set()

    @rule(made=postings)
    def reuse_the_id(self, made):
        with pytest.raises(ledger.PayloadMismatch):
            ledger.post_many([payment(made.moves[0].source, chart.FEES, 999, id=made.id)])

    @rule(target=holds, user=users, amount_nano=amounts, at_least_nano=st.integers(1, 60), generation=st.integers(1, 3))
    def hold(self, user, amount_nano, at_least_nano, generation):
        account, at_least_nano = self.wallet(user), min(amount_nano, at_least_nano)
        asked = {"id": ledger.new_id(), "account": account, "amount_nano": amount_nano, "at_least_nano": at_least_nano}
        asked |= {"owner": self.gateway, "generation": generation, "expires_in_s": 600}
        if self.free(account) < at_least_nano:
            with pytest.raises(ledger.InsufficientFunds):
                ledger.hold(**asked)
            return multiple()
        granted = ledger.hold(**asked)
        assert granted == min(amount_nano, self.free(account)) == ledger.hold(**asked)
        self.reserved[asked["id"]] = Lease(account, granted, granted, generation)
        return asked["id"]

    @rule(lease=holds, more_nano=st.integers(-3, 20) | st.integers(150, 400), is_longer=st.booleans())
    def extend(self, lease, more_nano, is_longer):
        found = self.reserved.get(lease)
        amount_nano = max(1, (found.amount_nano if found else 30) + more_nano)
        asked = {"amount_nano": amount_nano, "expires_in_s": 600 if is_longer else None}
        refusal = None
        if found is None:
            refusal = ledger.HoldClosed
        elif amount_nano < found.amount_nano:
            refusal = ledger.BadAmount
        elif self.free(found.account) < amount_nano - found.amount_nano:
            refusal = ledger.InsufficientFunds
        Machine.reached[f"extend {refusal.__name__ if refusal else more_nano > 0}"] += 1
        if refusal:
            with pytest.raises(refusal):
                ledger.extend(lease, **asked)
            return
        assert ledger.extend(lease, **asked) == amount_nano == ledger.extend(lease, **asked)
        found.rest_nano += amount_nano - found.amount_nano
        found.amount_nano = amount_nano
        found.is_late = found.is_late and not is_longer

    @rule(lease=holds, is_noticed=st.booleans())
    def run_out(self, lease, is_noticed):
        """Past its time it can still be drawn, or be given more time, until the sequencer has closed it."""
        if lease in self.reserved:
            cursor = Machine.superuser.cursor()
            cursor.execute("UPDATE ledger_hold SET expires_at = clock_timestamp() WHERE id = %s", [str(lease)])
            self.reserved[lease].is_late = True
        if is_noticed:
            self.expire()

    def expire(self):
        late = [id for id, lease in self.reserved.items() if lease.is_late]
        assert sequencer.expire() == len(late)
        Machine.reached["expired"] += len(late)
        for id in late:
            del self.reserved[id]

    @rule(below_generation=st.integers(1, 3))
    def end_holds(self, below_generation):
        if below_generation == 1:  # nobody is older than the first
            self.expire()
            return
        dead = [id for id, lease in self.reserved.items() if lease.generation < below_generation]
        fenced = ledger.close_holds_of(owner=self.gateway, below_generation=below_generation)
        assert fenced == len(dead)
        Machine.reached["fenced"] += len(dead)
        Machine.reached["not fenced"] += len(self.reserved) - len(dead)
        for id in dead:
            del self.reserved[id]

    @rule(target=postings, lease=holds, amount_nano=st.integers(1, 15), close=st.booleans())
    def draw(self, lease, amount_nano, close):
        found = self.reserved.get(lease)
        made = payment(found.account if found else self.wallet(1), chart.FEES, amount_nano)
        if found is None:
            with pytest.raises(ledger.HoldClosed):
                ledger.draw([ledger.Draw(lease, made)])
            return multiple()
        if found.rest_nano < amount_nano:
            with pytest.raises(ledger.HoldExceeded):
                ledger.draw([ledger.Draw(lease, made)])
            return multiple()
        assert ledger.draw([ledger.Draw(lease, made, close=close)]) == {made.id}
        assert ledger.draw([ledger.Draw(lease, made, close=close)]) == set()
        self.spendable[found.account] -= amount_nano
        found.rest_nano -= amount_nano
        Machine.reached["drawn late" if found.is_late else "drawn"] += 1
        if close:
            del self.reserved[lease]
        self.credit(chart.FEES, amount_nano)
        return made

    @rule(lease=consumes(holds))
    def close(self, lease):
        found = self.reserved.pop(lease, None)
        assert ledger.close(lease) == (found.rest_nano if found else 0)

    @rule(target=earned, source=users, payee=users, amount_nano=st.integers(1, 30), is_folded=st.booleans())
    def earn(self, source, payee, amount_nano, is_folded):
        if self.free(self.wallet(source)) < amount_nano:
            return multiple()
        made = payment(self.wallet(source), self.pending(payee), amount_nano, vest_after_s=0)
        ledger.post_many([made])
        self.spendable[self.wallet(source)] -= amount_nano
        self.credit(self.pending(payee), amount_nano)
        self.lots[made.id] = Lot(payee, amount_nano)
        if is_folded:
            self.fold()
        return made.id

    @rule(lot=earned, amount_nano=st.integers(1, 20))
    def refund(self, lot, amount_nano):
        found = self.lots[lot]
        made = payment(self.pending(found.payee), self.wallet(1), amount_nano, kind=ledger.Kind.REFUND, takes_from=lot)
        if not found.is_folded or found.rest_nano < amount_nano:
            with pytest.raises(ledger.LotUnavailable):
                ledger.post_many([made])
            return
        ledger.post_many([made])
        Machine.reached["refunded held" if found.is_held else "refunded"] += 1
        found.rest_nano -= amount_nano
        self.spendable[self.pending(found.payee)] -= amount_nano
        self.credit(self.wallet(1), amount_nano)

    @rule(lot=earned, is_held=st.booleans())
    def hold_or_release(self, lot, is_held):
        self.hold_lot(lot) if is_held else self.release_lot(lot)

    def hold_lot(self, lot):
        found = self.lots[lot]
        if found.is_folded:
            (row,) = ledger.lots_of(lot)
            assert ledger.hold_lot(row.id, reason="disputed", by="admin") == (not found.is_vested)
        else:
            ledger.hold_ahead(lot, self.pending(found.payee), reason="disputed", by="admin", until=None)
        found.is_held = not found.is_vested
        Machine.reached[f"held {'vested' if found.is_vested else 'folded' if found.is_folded else 'ahead'}"] += 1

    def release_lot(self, lot):
        found = self.lots[lot]
        if found.is_folded:
            (row,) = ledger.lots_of(lot)
            assert ledger.release_lot(row.id, by="admin") == found.is_held
        else:
            ledger.hold_ahead(lot, self.pending(found.payee), reason="", by="", until=None)
        Machine.reached["released" if found.is_held else "not released"] += 1
        found.is_held = False

    @rule()
    def fold(self):
        assert _do(sequencer.fold, len(self.unfolded)) == len(self.unfolded)
        for account, amount_nano in self.unfolded:
            self.spendable[account] += amount_nano
        self.unfolded.clear()
        for lot in self.lots.values():
            lot.is_folded = True

    @rule()
    def vest(self):
        due = [lot for lot in self.lots.values() if lot.is_folded and lot.rest_nano and not lot.is_held]
        assert sequencer.vest() == len(due)
        Machine.reached["vested"] += len(due)
        Machine.reached["not vested"] += sum(lot.is_held and lot.rest_nano > 0 for lot in self.lots.values())
        paid: Counter[int] = Counter()
        for lot in due:
            paid[lot.payee] += lot.rest_nano
            lot.rest_nano, lot.is_vested = 0, True
        for payee, amount_nano in paid.items():  # one posting per person
            self.spendable[self.pending(payee)] -= amount_nano
            self.credit(self.wallet(payee), amount_nano)

    @rule()
    def state_a_fact(self):
        id = ledger.new_id()
        said = {"id": id, "reference": f"rule:{id}", "entry": ledger.Entry("rule.adopted", {"rule": "r", "parts": []})}
        assert ledger.record_fact(**said)
        assert not ledger.record_fact(**said)
        self.unlogged += 1

    @rule()
    def log(self):
        assert _do(sequencer.log, self.unlogged) == self.unlogged
        self.unlogged = 0
        sequencer.sign_and_witness()
        assert public_log.head().size == public_log.log_size()

    @invariant()
    def the_books_agree(self):
        for user in (1, 2, 3):
            for account in (self.wallet(user), self.pending(user)):
                found = ledger.balance(account)
                assert found.available_nano == self.free(account)
                assert found.available_nano + found.held_nano == self.spendable[account]

    def teardown(self):
        self.fold()
        self.log()
        assert verify.failures() == []


def _do(step, count: int) -> int:
    """Do so much: while anything older is open in the cluster, an autovacuum, say, what is newer waits."""
    done, give_up_at = step(), time.monotonic() + 30
    while done < count and time.monotonic() < give_up_at:
        done += step()
    return done


def test_whatever_happens_the_books_agree_with_the_model(books_of_module):
    runs, chosen = (int(os.environ.get(name, usual)) for name, usual in (("MACHINE_RUNS", "50"), ("MACHINE_SEED", "7")))
    Machine.superuser = books_of_module.connect("DATABASE_SUPERUSER_URL")
    Machine.superuser.autocommit = True
    try:
        # Hypothesis draws from the constants of whatever modules are loaded, so what one seed does depends on the tests before.
        for more in range(SEEDS_MAX):
            run_state_machine_as_test(
                seed(chosen + more)(Machine),
                settings=settings(
                    max_examples=runs,
                    stateful_step_count=30,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    derandomize=True,
                    database=None,
                ),
            )
            missed = [name for name in MUST_HAPPEN if not Machine.reached[name]]
            if not missed:
                break
    finally:
        Machine.superuser.close()
    assert missed == [], f"in {SEEDS_MAX} runs nothing of it happened"
