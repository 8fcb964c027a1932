"""Every rule there was, since when, and what each change changed, on a public page."""

from __future__ import annotations

import re

import psycopg2
import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction

from datanets.models import RuleChange
from marketplace import listings, publishing, rules, training
from marketplace.models import ModelTerms
from tests.datanets.cast import make_datanet, person
from tests.marketplace.pages.test_explore import here, page
from tests.marketplace.pages.test_settings import as_it_is
from tests.shop import OPEN, make_model


def words_of(html: str) -> str:
    """What a page says, without its marks."""
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_a_datanet_whose_rules_never_changed_says_since_when_they_hold(books, client):
    said = words_of(page(client, f"{here(make_datanet())}rules/"))

    assert "The Datanet was created." in said
    assert "→" not in said


def test_a_datanet_shows_every_change_of_its_rules_the_newest_first(books, client):
    datanet = make_datanet(guidelines="Cells only.\nIn English.")
    erin = person("erin")
    publishing.change_datanet(datanet, by=erin, access="on_request", purpose="Measured cells", approvals_needed=2)
    publishing.change_datanet(datanet, by=erin, guidelines="Cells only.\nIn any language.", export_allowed=False)
    publishing.change_datanet(datanet, by=erin, access="on_request")
    for _again in range(2):
        training.set_fee(datanet, by=erin, training_fee_nano=OPEN)

    # Purpose is no rule, and what stays the same is no change
    kept = list(RuleChange.objects.order_by("pk").values_list("rule", "before", "after"))
    assert kept[:2] == [("access", "open", "on_request"), ("approvals_needed", 1, 2)]
    assert [rule for rule, _before, _after in kept[2:]] == ["export_allowed", "guidelines"]
    said = words_of(page(client, f"{here(datanet)}rules/"))
    for change in ("Open → On request", "1 → 2", "yes → no", "none → 1.0000 OPEN", "The Datanet was created."):
        assert change in said
    assert said.count("→") == 4
    assert "\N{MINUS SIGN} In English. + In any language." in said
    assert said.index("none → 1.0000 OPEN") < said.index("yes → no") < said.index("1 → 2")


def test_the_history_of_rules_is_only_added_to(books):
    datanet = make_datanet()
    publishing.change_datanet(datanet, by=person("erin"), access="closed")

    for act in ("UPDATE datanets_rulechange SET after = '\"open\"'", "DELETE FROM datanets_rulechange"):
        with pytest.raises(DatabaseError) as said, transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(act)
        assert isinstance(said.value.__cause__, psycopg2.Error)
        assert said.value.__cause__.pgcode == "DN001"
    with pytest.raises(IntegrityError, match="rule_change_makes_a_difference"), transaction.atomic():
        RuleChange.objects.create(
            datanet=datanet, rule="access", before="open", after="open", changed_by=person("erin")
        )


def test_a_model_shows_its_split_rules_prices_and_ways_in(books, client):
    model = make_model()
    parts = {"data": 4475, "curation": 500, "developer": 4025, "platform": 750, "owner": 250}
    own = rules.adopt(name="Ours", parts=parts, by=model.owner)
    as_before = as_it_is(model)
    listings.set_prices(model, by=model.owner, price_call_nano=2 * OPEN, price_in_nano=0, price_out_nano=7)
    listings.change_model(model, by=model.owner, **as_before | {"split_rule": own})
    sells = {"access_mode": "pass", "pass_price_nano": 3 * OPEN, "pass_days": 30, "free_calls_per_day": 5}
    listings.change_model(model, by=model.owner, **as_it_is(model) | sells)
    listings.change_model(model, by=model.owner, **as_it_is(model) | {"purpose": "Better"})

    newest = ModelTerms.objects.filter(model=model).order_by("-pk")
    assert newest.count() == 3
    assert {name: getattr(newest[0], name) for name in sells} == sells
    client.force_login(model.owner)
    html = page(client, f"/en/models/{model.path}/rules/")
    said = words_of(html)
    assert "Data contributors: 35% → 44.75%" in said
    assert "Datanet owners: 0% → 2.5%" in said
    assert html.count(own.sha256) == html.count(rules.default_rule().sha256) == 2  # as a title and in its address
    assert "Per call:" in said
    assert "→ 2.000000000" in said
    assert said.count("In force") == 3
    ways_in = said[said.index("Days") :]
    assert ways_in.index("Pass") < ways_in.index("Open")
