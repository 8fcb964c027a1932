"""The chart of accounts: every account code of the product on one screen.

An account opens itself when it is first moved to or from. A code that is not in this chart is refused, here and again
in the database (`sql/chart.sql` repeats the same pattern, and a test compares the two), so a typing error can never
become a place where money lies unseen.

Pure: imports neither Django nor a model.
"""

from __future__ import annotations

import re
from typing import Literal
from uuid import UUID

#: The whole supply: 1e9 OPEN of 1e9 nano-OPEN each. Fits a BIGINT, and so does every balance.
SUPPLY_NANO = 10**18

#: What is outside the books. Its balance is minus what is inside; never below -SUPPLY_NANO.
WORLD = "world"
#: What is outside of test money: it gives it, and takes back what test calls cost. Bounded like `world`.
TEST_WORLD = "testworld"
#: The platform's part of every charge.
FEES = "platform:fees"

#: Families of accounts that belong to a person.
OF_PERSONS = ("wallet", "promotion", "pending", "test")

PoolFor = Literal["calls", "access", "training"]
PoolPart = Literal["data", "curation"]

_USER = "[1-9][0-9]{0,17}"
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
#: One regular expression for every code, in the common subset of Python's and PostgreSQL's syntax.
PATTERN = (
    "^(world|testworld|platform:fees"
    f"|(wallet|promotion|pending|test):{_USER}"
    f"|pool:{_UUID}:(calls|access|training):(data|curation)"
    f"|(unattributed|bounty|withdrawals):{_UUID})$"
)
_COMPILED = re.compile(PATTERN.replace("$", r"\Z"))


def wallet(user_id: int) -> str:
    """What a person can spend in the market or withdraw."""
    return f"wallet:{int(user_id)}"


def promotion(user_id: int) -> str:
    """What a developer has set aside to pay the free calls of their models."""
    return f"promotion:{int(user_id)}"


def test_wallet(user_id: int) -> str:
    """A person's test money. No posting has a test account and another one: the numbers of test accounts are negative."""
    return f"test:{int(user_id)}"


def pending(user_id: int) -> str:
    """What a person has earned while its challenge window runs; made of lots."""
    return f"pending:{int(user_id)}"


def pool(model_id: UUID | str, source: PoolFor, part: PoolPart) -> str:
    """The contributors' or curators' part of a model's calls, access sales or training fees, until settled."""
    return f"pool:{model_id}:{source}:{part}"


def unattributed(model_id: UUID | str) -> str:
    """What no record supports: public, and given to the Datanets' bounties after 90 days."""
    return f"unattributed:{model_id}"


def bounty(datanet_id: UUID | str) -> str:
    """A Datanet's bounty account."""
    return f"bounty:{datanet_id}"


def withdrawals(run_id: UUID | str) -> str:
    """What is on its way out in one payout run."""
    return f"withdrawals:{run_id}"


def is_account(code: str) -> bool:
    """Say whether the chart knows this code."""
    return bool(_COMPILED.match(code))


def user_of(code: str) -> int | None:
    """The person whose wallet, promotion, pending or test account this is; None for every other account."""
    family, _, owner = code.partition(":")
    return int(owner) if family in OF_PERSONS and owner.isascii() and owner.isdigit() else None
