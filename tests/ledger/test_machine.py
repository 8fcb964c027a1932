"""The money state machine: whatever order things happen in, repeated and late, the books agree with a Python model."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from ledger import chart, sequencer, verify
from ledger import services as ledger
from tests.ledger.builders import payment

users = st.integers(1, 3)
amounts = st.integers(1, 60)


class Machine(RuleBasedStateMachine):
    """A model in six dicts. Each run has wallets of its own, so that runs share one database."""

    postings = Bundle("postings")
    holds = Bundle("holds")
    earned = Bundle("earned")
    runs = 0

    def __init__(self) -> None:
        super().__init__()
        Machine.runs += 1
        self.base = Machine.runs * 10
        self.spendable: Counter[str] = Counter()
        self.unfolded: list[tuple[str, int]] = []
        self.reserved: dict = {}
        self.lots: dict = {}

    def wallet(self, user: int) -> str:
        return chart.wallet(self.base + user)

    def pending(self, user: int) -> str:
        return chart.pending(self.base + user)

    def free(self, account: str) -> int:
        return self.spendable[account] - sum(rest for owner, rest in self.reserved.values() if owner == account)

    def credit(self, account: str, amount_nano: int) -> None:
        self.unfolded.append((account, amount_nano))

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
            return None
        assert ledger.post_many([made]) == {made.id}
        self.spendable[self.wallet(source)] -= amount_nano
        self.credit(made.moves[0].target, amount_nano)
        return made

    @rule(made=postings)
    def repeat(self, made):
        if made:
            assert ledger.post_many([made]) == set()

    @rule(made=postings)
    def reuse_the_id(self, made):
        if made:
            with pytest.raises(ledger.PayloadMismatch):
                ledger.post_many([payment(made.moves[0].source, chart.FEES, 999, id=made.id)])

    @rule(target=holds, user=users, amount_nano=amounts, at_least_nano=st.integers(1, 60))
    def hold(self, user, amount_nano, at_least_nano):
        account, at_least_nano = self.wallet(user), min(amount_nano, at_least_nano)
        asked = {"id": ledger.new_id(), "account": account, "amount_nano": amount_nano, "at_least_nano": at_least_nano}
        if self.free(account) < at_least_nano:
            with pytest.raises(ledger.InsufficientFunds):
                ledger.hold(**asked, expires_in_s=600)
            return None
        granted = ledger.hold(**asked, expires_in_s=600)
        assert granted == min(amount_nano, self.free(account)) == ledger.hold(**asked, expires_in_s=600)
        self.reserved[asked["id"]] = [account, granted]
        return asked["id"]

    @rule(target=postings, lease=holds, payee=users, amount_nano=amounts, close=st.booleans())
    def draw(self, lease, payee, amount_nano, close):
        if not lease:
            return None
        account, rest = self.reserved.get(lease, (None, 0))
        made = payment(account or self.wallet(1), chart.FEES, amount_nano)
        if account is None:
            with pytest.raises(ledger.HoldClosed):
                ledger.draw([ledger.Draw(lease, made)])
            return None
        if rest < amount_nano:
            with pytest.raises(ledger.HoldExceeded):
                ledger.draw([ledger.Draw(lease, made)])
            return None
        assert ledger.draw([ledger.Draw(lease, made, close=close)]) == {made.id}
        assert ledger.draw([ledger.Draw(lease, made, close=close)]) == set()
        self.spendable[account] -= amount_nano
        self.reserved[lease][1] -= amount_nano
        if close:
            del self.reserved[lease]
        self.credit(chart.FEES, amount_nano)
        return made

    @rule(lease=consumes(holds))
    def close(self, lease):
        if lease:
            assert ledger.close(lease) == self.reserved.pop(lease, (None, 0))[1]

    @rule(target=earned, source=users, payee=users, amount_nano=amounts)
    def earn(self, source, payee, amount_nano):
        if self.free(self.wallet(source)) < amount_nano:
            return None
        made = payment(self.wallet(source), self.pending(payee), amount_nano, vest_after_s=0)
        ledger.post_many([made])
        self.spendable[self.wallet(source)] -= amount_nano
        self.credit(self.pending(payee), amount_nano)
        self.lots[made.id] = [payee, amount_nano, False]
        return made.id

    @rule(lot=earned, amount_nano=amounts)
    def refund(self, lot, amount_nano):
        if not lot:
            return
        payee, rest, is_folded = self.lots[lot]
        made = payment(self.pending(payee), self.wallet(1), amount_nano, kind=ledger.Kind.REFUND, takes_from=lot)
        if not is_folded or rest < amount_nano:
            with pytest.raises(ledger.LotUnavailable):
                ledger.post_many([made])
            return
        ledger.post_many([made])
        self.lots[lot][1] -= amount_nano
        self.spendable[self.pending(payee)] -= amount_nano
        self.credit(self.wallet(1), amount_nano)

    @rule()
    def fold(self):
        while sequencer.fold():
            pass
        for account, amount_nano in self.unfolded:
            self.spendable[account] += amount_nano
        self.unfolded.clear()
        for lot in self.lots.values():
            lot[2] = True

    @rule()
    def vest(self):
        sequencer.vest()
        for lot in self.lots.values():
            payee, rest, is_folded = lot
            if is_folded and rest:
                self.spendable[self.pending(payee)] -= rest
                self.credit(self.wallet(payee), rest)
                lot[1] = 0

    @invariant()
    def the_books_agree(self):
        for user in (1, 2, 3):
            for account in (self.wallet(user), self.pending(user)):
                found = ledger.balance(account)
                assert found.available_nano == self.free(account)
                assert found.available_nano + found.held_nano == self.spendable[account]

    def teardown(self):
        self.fold()
        assert verify.failures() == []


def test_whatever_happens_the_books_agree_with_the_model(books_of_module):
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
        ),
    )
