"""Score cards: measured in parts that outlive a killed worker, in force for later epochs, and what a low one pays."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import pytest
from django.db import DatabaseError, connection, transaction

from attribution import bundles, cardparts, cards, cardwords, explain, methods, replay
from attribution.models import Epoch, Line, RecordEpoch, RecordFee, ScoreCard, ScoreCardPart
from datanets.models import Record
from ledger.models import Leaf
from marketplace import access, measuring, publishing, training
from tests.attribution.models_process import running_models_process
from tests.datanets import cast
from tests.datanets.cast import make_datanet, send
from tests.marketplace.pages.world import call
from tests.shop import (
    OPEN,
    fund,
    make_model,
    measured,
    measured_card,
    nothing_is_wrong,
    person,
    published,
    settle,
    trained,
)

PEOPLE = {name: measured(14, start=14 * place) for place, name in enumerate(("alice", "bob", "gina", "hugo"))}
SOLD = {"access_mode": "pass", "pass_price_nano": OPEN, "pass_days": 30}


@pytest.fixture
def shop(books, settings):
    settings.REVIEW_UNDO_S = 0
    settings.SCORE_CARD_WAIT_S = 0
    for name in ("devi", "dan"):
        fund(books, person(name), 100)
    return books


@pytest.fixture
def version(shop):
    """A linear model on 56 rows of four people."""
    return trained(shop, published(PEOPLE, fee_open=10), **SOLD)


def card_of(version) -> ScoreCard:
    return ScoreCard.objects.get(model_version_id=version.pk, number=1)


def test_every_training_asks_for_a_card_that_names_each_figure(version):
    card = card_of(version)
    assert (card.status, cards.in_force(version.model_id)) == ("measuring", {})

    card = measured_card(version)

    assert card.status == "done"
    assert set(card.figures) == set(cardparts.FIGURES)
    assert card.figures["lds_half"]["retrainings"] >= 100
    assert card.figures["lds_half"]["value"] > 0.8
    assert card.figures["lds_contributors"]["retrainings"] == 2**4 - 2  # all that there are
    assert card.figures["label_noise"]["value"] > 0.8
    assert card.figures["copy_gain"] == {"value": 1.0, "others_changed": 0}
    assert card.figures["canaries"] == {"not_applicable": "answers_no_words"}
    assert card.below == [] and card.cpu_ms > 0
    assert cards.in_force(version.model_id)[str(version.pk)] == {"card": card.pk, "below": []}


def test_a_card_whose_workers_were_killed_is_that_of_an_undisturbed_one_to_the_bit(version):
    # Given a card whose workers died again and again, and whose bells rang twice
    card = card_of(version)
    for _ in range(3):
        measured_card(version, at_most=4)
        cardparts._known.cache_clear()  # as in a new process
        cards.advance(card.pk)
        assert cards.ring_due() == 0  # nothing is late yet
    disturbed = measured_card(version)
    cards.measure(card.parts.earliest("pk").pk)

    # When the same artifact is measured from the same seed without a break
    other = cards.ask(artifact_sha256=card.artifact_id, model_id=version.model_id, model_version_id=version.model_id)
    assert other.seed == card.seed
    cards.advance(other.pk)
    for part in other.parts.order_by("pk"):
        cards.measure(part.pk)
    other.refresh_from_db()
    undisturbed = other

    # Then both say the same, out of the same bytes
    assert undisturbed.figures == disturbed.figures
    kept = [list(one.parts.order_by("name", "number").values_list("name", "number", "result")) for one in (card, other)]
    assert [bytes(row[2]) for row in kept[0]] == [bytes(row[2]) for row in kept[1]]


def test_a_part_whose_bell_is_lost_is_rung_again(version):
    card = card_of(version)
    cards.advance(card.pk)
    parts = card.parts.count()

    ScoreCardPart.objects.update(rung_at="2026-01-01T00:00:00Z")

    assert cards.ring_due() == min(parts, cards.RUNG_AT_ONCE)
    assert cards.ring_due() == 0


def test_what_cannot_be_measured_is_named_and_ends_the_card_all_the_same(version, monkeypatch):
    # Given an artifact of which the copies cannot be fitted, whatever worker tries
    def broken(*_args, **_kwargs):
        raise ArithmeticError("The fit did not converge; a larger l2 helps.")

    monkeypatch.setattr(cardparts.heads, "copy_gain", broken)
    card = measured_card(version)

    assert card.status == "done"
    assert card.figures["copy_gain"] == {"failed": True}
    [part] = card.parts.filter(result=None)
    assert (part.name, part.attempts) == ("copy_gain", cards.ATTEMPTS_MAX)
    assert "did not converge" in part.error


def test_a_version_is_measured_again_under_a_new_seed_and_once_at_a_time(version):
    first = measured_card(version)
    again = {"artifact_sha256": version.artifact_sha256, "model_id": version.model_id, "model_version_id": version.pk}

    second = cards.ask(**again)

    assert (second.number, second.seed != first.seed) == (2, True)
    assert cards.ask(**again) == second
    assert cards.in_force(version.model_id)[str(version.pk)]["card"] == first.pk  # until the second is done


def test_a_card_that_is_done_and_what_an_epoch_froze_of_it_never_change(shop, version):
    card = measured_card(version)
    settle(shop)

    for change in (
        lambda: ScoreCard.objects.filter(pk=card.pk).update(below=["lds_half"]),
        lambda: ScoreCard.objects.filter(pk=card.pk).update(status="measuring", done_at=None),
        lambda: Epoch.objects.update(cards={}),
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            change()


BIRDS = {
    "alice": "The wren is a small brown bird, and it weighs nine grams when it is fed well.",
    "bob": "The heron stands in shallow water for hours, and it eats fish that come too near.",
    "gina": "The swift sleeps on the wing, and it lands only where it breeds, under old roofs.",
}


@pytest.mark.parametrize("engine", ["retrieval", "connected"])
def test_a_model_that_answers_in_words_is_asked_for_planted_facts(shop, settings, engine):
    # Given a model on three texts, and a models process whose answers gain by each document alike
    datanet = make_datanet("Birds", kind="text")
    for name, text in BIRDS.items():
        cast.approve_all(send(datanet, text.encode(), by=name, name=f"{name}.txt"))
    with running_models_process() as url:
        settings.MODELS_URL = url
        settings.OUTBOUND_ALLOW = ["127.0.0.1:9"]
        upstream = {"upstream_url": "http://127.0.0.1:9/v1", "upstream_model": "x"} if engine == "connected" else {}
        model = make_model("Birds", engine=engine, **upstream)
        frozen = publishing.publish_version(datanet, by=datanet.owner)
        training.run(training.request(model=model, by=model.owner, versions=[frozen], settings={}).pk)

        card = measured_card(model.versions.get())

    # Then every figure is there or named, and words repeated are found; in other words only by who asked the model
    assert set(card.figures) == set(cardparts.FIGURES)
    assert card.figures["lds_half"] == {"not_applicable": "not_trained_here"}
    assert card.figures["copy_gain"] == {"value": 1.0, "others_changed": 0}
    assert card.figures["canaries"]["value"] == 1.0
    assert card.figures["paraphrases"]["value"] == (1.0 if engine == "retrieval" else 0.0)
    if engine == "retrieval":
        assert card.figures["lds_context"]["value"] > 0.9
    else:
        assert card.figures["lds_context"] == {"not_applicable": "no_context"}


# --- Below the floor


@pytest.fixture
def below(shop, settings):
    """A model with a floor that no scores reach, measured before anything of it is settled."""
    settings.SCORE_CARD_LDS_MIN = 1.01
    version = trained(shop, published(PEOPLE, fee_open=10), **SOLD)
    card = measured_card(version)
    assert card.below == ["lds_half"]
    return version


def amounts(**of) -> dict[str, int]:
    return dict(Line.objects.filter(payee__isnull=False, **of).values_list("payee__username", "amount_nano"))


def test_below_the_floor_calls_passes_and_trainings_pay_every_leader_the_same_to_the_nano(shop, below):
    access.buy_pass(below.model, buyer=person("dan"))
    paid_for = call(below, person("dan"))
    settle(shop)

    for source in ("call", "access", "training"):
        paid = amounts(source=source, role="data")
        assert set(paid) == set(PEOPLE)
        assert max(paid.values()) - min(paid.values()) <= 14  # 14 records each, and a nano more or less for each
        records = (RecordEpoch if source == "call" else RecordFee.objects.filter(source=source).model).objects
        found = records.filter(**({} if source == "call" else {"source": source})).values_list("amount_nano", flat=True)
        assert len(found) == 56 and max(found) - min(found) <= 1
    assert Epoch.objects.latest("number").pays_equally(below.pk)
    assert explain.why_call(paid_for).method == methods.EQUAL_BELOW_FLOOR
    assert all(fee.equal_nano == fee.amount_nano for fee in RecordFee.objects.all())
    assert nothing_is_wrong()
    for epoch in Epoch.objects.all():
        assert replay.of_epoch(epoch).differences == []
    assert replay.of_charge(paid_for).differences == []


def test_a_stranger_reads_in_the_log_that_an_epoch_paid_equally_and_by_which_card(shop, below, client):
    call(below, person("dan"))
    settle(shop)
    shop.log()

    epoch = Epoch.objects.latest("number")
    said = Leaf.objects.get(entry_id=epoch.pk).entry
    assert said["equally"] == [{"version": str(below.pk), "card": 1, "below": ["lds_half"]}]
    for language, sentence in (("en", "pays every record that leads the same"), ("fr", "y paie autant chaque")):
        page = client.get(f"/r/{epoch.pk}", headers={"accept-language": language}).content.decode()
        assert f"{below.path} {sentence}" in page
    assert nothing_is_wrong()


def test_an_epoch_pays_by_the_card_of_its_close_whatever_is_measured_later(shop, version, settings):
    # Given a call of a good model, settled, and one after it was measured again under a higher floor
    measured_card(version)
    by_score = call(version, person("dan"))
    settle(shop)
    settings.SCORE_CARD_LDS_MIN = 1.01
    again = cards.ask(artifact_sha256=version.artifact_sha256, model_id=version.model_id, model_version_id=version.pk)
    sums = dict(RecordEpoch.objects.values_list("record_id", "net"))
    assert measured_card(version) == again
    equally = call(version, person("dan"))
    settle(shop)

    # Then each stays paid as its epoch said, and scores that were not used moved no running sum
    assert explain.why_call(by_score).method == "midpoint influence/1"
    assert explain.why_call(equally).method == methods.EQUAL_BELOW_FLOOR
    newest = RecordEpoch.objects.filter(epoch=Epoch.objects.latest("number"))
    assert {row.record_id: row.net for row in newest} == sums | {
        row.record_id: 0 for row in newest if row.record_id not in sums
    }
    for epoch in Epoch.objects.all():
        assert replay.of_epoch(epoch).differences == []
    assert nothing_is_wrong()


def test_who_took_a_record_back_gets_no_equal_part_of_it(shop, below):
    settle(shop)
    [taken] = Record.objects.filter(contributor=person("alice")).order_by("pk")[:1]
    publishing.withdraw_record(taken, by=taken.contributor)
    call(below, person("dan"))
    settle(shop)

    paid = RecordEpoch.objects.filter(epoch=Epoch.objects.latest("number"))
    assert paid.count() == 55 and not paid.filter(record=taken).exists()
    assert nothing_is_wrong()


def test_a_model_with_few_records_says_so_and_pays_by_its_method(shop, settings):
    settings.SCORE_CARD_LDS_MIN = 1.01
    version = trained(shop, published({"alice": measured(12)}))
    card = measured_card(version)

    assert card.figures["lds_half"] == {"not_applicable": "too_few_records"}
    assert card.below == []


def test_a_neighbours_model_has_a_card(shop):
    version = trained(shop, published(PEOPLE), engine="neighbours", settings={"k": 5})
    card = measured_card(version)

    assert set(card.figures) == set(cardparts.FIGURES)
    assert card.figures["copy_gain"] == {"value": 1.0, "others_changed": 0}
    assert bundles.load(version.artifact_sha256).leads.sum() == 56


# --- Who sees it


def test_the_model_s_page_and_api_show_the_card_before_anybody_buys(shop, version, client):
    here, api = f"/en/models/{version.model.path}/", f"/api/v1/models/{version.model.path}/versions/1/score-card/"
    waiting = client.get(here).content.decode()
    assert "Until it is measured this model pays by its method." in waiting and "Being measured: 0" in waiting
    assert client.get(api).json()["status"] == "being_measured"
    measured_card(version, at_most=5)
    assert 0 < client.get(api).json()["progress_percent"] < 100

    card = measured_card(version)

    page, said = client.get(here).content.decode(), client.get(api).json()
    for label, _about in cardwords.LABELS.values():
        assert str(label) in page
    assert "Does not apply: it does not answer in words." in page and "1.000000" in page
    assert (said["status"], said["pays"], said["figures"]) == ("measured", "by_score", card.figures)
    in_french = client.get(here.replace("/en/", "/fr/")).content.decode()
    assert "Fiche de mesures" in in_french and "1,000000" in in_french
    assert "hx-trigger" not in client.get(f"{here}score-card/").content.decode()  # it asks no more


def test_a_page_of_a_model_below_the_floor_says_that_it_pays_equally(below, client):
    about = methods.shown(methods.EQUAL_BELOW_FLOOR)
    page = client.get(f"/en/models/{below.model.path}/").content.decode()

    assert about.name in page and about.statement in page
    assert "pay every record that leads the same, from the first epoch that closed after this card" in page
    said = client.get(f"/api/v1/models/{below.model.path}/versions/1/score-card/").json()
    assert (said["pays"], said["below_floor"]) == ("equally", ["lds_half"])


def test_a_contributor_reads_in_a_line_that_it_was_paid_equally(shop, below, client):
    call(below, person("dan"))
    settle(shop)
    line = Line.objects.filter(payee=person("alice"), source="call", role="data").get()

    client.force_login(person("alice"))

    about = methods.shown(methods.EQUAL_BELOW_FLOOR)
    assert about.statement in client.get(f"/en/earnings/lines/{line.pk}/").content.decode()
    assert client.get(f"/api/v1/earnings/lines/{line.pk}/").json()["method"]["code"] == about.code


def test_the_owner_now_and_then_and_admins_have_it_measured_again_and_nobody_else(version, client, monkeypatch):
    person("olga", is_staff=True)
    measured_card(version)
    here = f"/en/models/{version.model.path}/score-card/"

    def ask(name: str) -> int:
        client.force_login(person(name))
        return client.post(here).status_code

    # The owner waits, so that nobody goes on until chance puts a figure above its floor; admins may ask at any time
    assert [ask(name) for name in ("dan", "devi", "olga")] == [403, 409, 302]
    measured_card(version)
    monkeypatch.setattr(measuring, "OWNER_ASKS_AGAIN_AFTER", timedelta(0))  # a done card never changes

    assert ask("devi") == 302
    assert ScoreCard.objects.filter(model_version_id=version.pk).count() == 3


def test_the_gateway_tells_the_card_in_its_catalogue(version):
    card = measured_card(version)
    with connection.cursor() as cursor:
        cursor.execute("SELECT score_card FROM gateway_models WHERE version_id = %s", [version.pk])
        (told,) = cursor.fetchone()

    told = json.loads(told) if isinstance(told, str) else told
    assert (told["figures"], told["below_floor"], told["number"]) == (card.figures, [], 1)
    assert datetime.fromisoformat(told["measured_at"]) == card.done_at.replace(microsecond=0)
