"""A tuned attack through the public services, by accounts; its payouts must be those of bench/attack_market.py, to the nano.

    .venv/bin/python -m bench.attack_replay linear tumours near --state attacks.json

Twenty contributors upload, curators approve, version 1 is published and a model trained on it; buyers call it through a real
gateway and the epoch is settled. Then the attacker acts, and all of it happens again with version 2. What accounts got is read
in the ledger. Prices are equal; texts are not replayed, since their vectors are not the models process's.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.attack_data import SETS, Data, Row, png
from bench.attack_kinds import ATTACKER, ATTACKS, COLLUDER, CURATORS, FIRST_ACCOUNT, Choice, Play
from bench.attack_market import PRICE_NANO, Market, Sent
from bench.attacks import curator_of
from bench.books import whole_site

TOTAL_OPEN = 1_000
_FILES = {"tabular": "rows.csv", "image": "pictures.zip"}


class Replayed(NamedTuple):
    """What the attacker's side got, less what it spent: in the ledger, and by the market's arithmetic. In nano-OPEN."""

    before: int
    after: int
    computed_before: int
    computed_after: int


def replay(books, market: Market, name: str, choice: Choice, *, questions: int, seed: int = 0) -> Replayed:
    """Play one attack on a site. `books`: of tests/books.py, with nobody else on it."""
    from django.conf import settings
    from django.db import connection

    from datanets import registration
    from datanets.models import Record, Version
    from marketplace import keys, privileges, publishing
    from tests.datanets.cast import make_datanet, send
    from tests.gateway.conftest import running_gateway
    from tests.shop import fund, nothing_is_wrong, person, settle, trained

    data = market.data
    asked = data.questions[:questions]
    privileges.apply(connection, role=settings.APP_DB_ROLE)
    fields = {"schema": plain_schema(data.schema)} if data.kind == "tabular" else {"schema": {"labels": data.labels}}
    datanet = make_datanet("Attacked", kind=data.kind, **fields)
    if data.kind == "tabular":  # as the first file of so many rows does
        registration.freeze_spreads(datanet, [data.body(row) for row in data.honest[: 2 * data.rows_each]])
    for handle in ("devi", "dan", _name(ATTACKER)):
        fund(books, person(handle), TOTAL_OPEN)

    def sent(rows: Sequence[Row]) -> list[str]:
        """Upload rows by those who have them; returns their identities, in the order given."""
        identities = {}
        for who in dict.fromkeys(row.who for row in rows):
            mine = [n for n, row in enumerate(rows) if row.who == who]
            submission = send(datanet, file_of(data, [rows[n] for n in mine]), by=_name(who), name=_FILES[data.kind])
            stored = Record.objects.filter(submission=submission).order_by("position")
            identities.update(zip(mine, stored.values_list("identity", flat=True), strict=True))
        return [identities[n] for n in range(len(rows))]

    def paid(curators: dict[str, int], play: Play, *, model: str, is_changed: bool = True) -> int:
        """Approve, publish, train, call and settle; returns what the attacker's side got of it, less what it spent.

        is_changed: False for an attack without a record, by calls only: the version there is stays the newest.
        """
        _approve(datanet, curators)
        if is_changed:
            publishing.publish_version(datanet, by=datanet.owner)
        version = Version.objects.filter(datanet=datanet).latest("number")
        options = {"image_side": 8} if data.kind == "image" else {}
        trained(books, version, name=model, engine=market.engine, settings=options)
        held = _held(play)
        environment = {"STORAGE_DIR": str(settings.STORAGE_DIR), "WITNESS_QUORUM": "0"}
        with running_gateway(books, **environment) as gateway:
            for handle, values in (("dan", asked), (_name(ATTACKER), play.calls)):
                secret = keys.create(owner=person(handle), name="calls")[1] if values else ""
                for value in values:
                    body = {"model": f"devi/{model.lower()}", "input": _input(data, value)}
                    answer = gateway.post("/v1/classify", body, key=secret)
                    assert answer.status_code == 200, answer.text
        assert settle(books) == 1
        return _held(play) - held

    nothing = Play(market.nothing_sent())
    honest_ids = sent(data.honest)
    curators = {one: curator_of(row.who, False) for one, row in zip(honest_ids, data.honest, strict=True)}
    play = ATTACKS[name].play(market, choice, np.random.default_rng((seed, 2, 0)))
    play.sent = play.sent._replace(owners={})  # who sent a row first is no act of a service
    before = paid(curators, Play(nothing.sent, has_curator=play.has_curator), model="Before")
    gone = set(range(len(data.honest))) - set(play.sent.kept)
    for n in sorted(gone):
        publishing.withdraw_record(Record.objects.get(identity=honest_ids[n]), by=person(_name(data.honest[n].who)))
    added_ids = sent(play.sent.added) if play.sent.added else []
    new = {one: curator_of(row.who, play.has_curator) for one, row in zip(added_ids, play.sent.added, strict=True)}
    after = paid(new, play, model="After", is_changed=bool(new or gone))
    nothing_is_wrong()

    def computed(of: Sent, identities: list[str], calls: list) -> int:
        by = {**curators, **new}
        prices = [[PRICE_NANO] * (len(asked) + len(calls))]
        [found] = market.settle(
            of, [*asked, *calls], prices, identities=identities, curators=[by[one] for one in identities]
        )
        mine = sum(nano for who, nano in found.data.items() if who == ATTACKER or who >= FIRST_ACCOUNT)
        return mine + (found.curation[COLLUDER] if play.has_curator else 0) - PRICE_NANO * len(calls)

    ids = [honest_ids[n] for n in play.sent.kept] + added_ids
    return Replayed(before, after, computed(nothing.sent, honest_ids, []), computed(play.sent, ids, play.calls))


def _held(play: Play) -> int:
    """What the attacker's accounts hold, earned and not yet vested money included."""
    from accounts.models import User
    from ledger import chart
    from ledger import services as ledger

    names = [_name(ATTACKER)] + ([_name(COLLUDER)] if play.has_curator else [])
    people = User.objects.filter(username__in=names) | User.objects.filter(username__startswith="account")
    return sum(ledger.balance_nano(code(one.pk)) for one in people for code in (chart.wallet, chart.pending))


def _approve(datanet, curators: dict[str, int]) -> None:
    from datanets import reviews, services
    from datanets.models import Record
    from tests.shop import person

    for curator in CURATORS:
        mine = [identity for identity, who in curators.items() if who == curator]
        waiting = list(Record.objects.filter(datanet=datanet, status="waiting", identity__in=mine))
        if waiting:
            by = person(_name(curator))
            if not datanet.memberships.filter(user=by).exists():
                services.add_curator(datanet, user=by, by=datanet.owner)
            reviews.decide(waiting, curator=by, decision="approve")


def _name(who: int) -> str:
    return f"curator{who}" if who in CURATORS else f"account{who}" if who >= FIRST_ACCOUNT else f"person{who}"


def plain_schema(schema: dict) -> dict:
    """As its owner writes it: without the spreads that the product adds."""
    columns = [{key: value for key, value in each.items() if key != "spread"} for each in schema["columns"]]
    return schema | {"columns": columns}


def file_of(data: Data, rows: Sequence[Row]) -> bytes:
    """What a contributor uploads."""
    from tests.datanets.cast import table
    from tests.datanets.hostile import zipped

    if data.kind == "tabular":
        return table([(*map(repr, row.value), row.label) for row in rows], ",".join([*data.columns, "diagnosis"]))
    names = [f"{n:04d}.png" for n in range(len(rows))]
    labels = "file,label\n" + "".join(f"{name},{row.label}\n" for name, row in zip(names, rows, strict=True))
    pictures = {name: png(row.value) for name, row in zip(names, rows, strict=True)}
    return zipped({**pictures, "labels.csv": labels.encode()})


def _input(data: Data, value: Any) -> Any:
    if data.kind == "tabular":
        return data.inputs([value])[0]
    return {"image": base64.b64encode(png(value)).decode()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=("linear", "neighbours"))
    parser.add_argument("set", choices=[name for name, each in SETS.items() if each.kind != "text"])
    parser.add_argument("attack", choices=ATTACKS)
    parser.add_argument("--state", type=Path, required=True, help="what bench.attacks found")
    parser.add_argument("--questions", type=int, default=40)
    options = parser.parse_args()
    unit = json.loads(options.state.read_text(encoding="utf-8"))["units"][
        f"{options.engine}/{options.set}/{options.attack}"
    ]
    with whole_site():  # doorbells ring, and nobody hears them: this process does the work
        from tests.books import Books

        market = Market(SETS[options.set](0), options.engine)
        found = replay(Books("openledger"), market, options.attack, unit["judged"], questions=options.questions)
    print(f"{options.attack}, {options.set}, {options.engine}: ledger {found.after / found.before:.6f}", found)
    if (found.before, found.after) != (found.computed_before, found.computed_after):
        sys.exit("the ledger and the arithmetic differ")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
