"""The demo among people: its accounts, Datanets and models are everybody's from the first page on."""

import io
import os
import stat

import pytest
import redis

from datanets import checking, submissions, uploads
from datanets.models import Record, Submission
from demo import calls, files, loader, people, progress, state, tasks
from marketplace import keys
from marketplace.models import ApiKey, ListedModel

USERS = {"contributor", "contributor2", "curator", "owner", "developer", "buyer", "admin", "admin2"}
MODELS = {
    "chat": "devi/licence-chat",
    "tabular": "devi/tumour-check",
    "financial": "devi/investment-estimate",
    "image": "devi/digit-reader",
    "embedding": "devi/text-embeddings",
}


@pytest.fixture
def demo(books, settings, tmp_path, monkeypatch):
    """A demo that has just begun, with a few rows in each file."""
    settings.STATE_DIR, settings.STORAGE_DIR = tmp_path, tmp_path / "storage"
    tumours, digits, licences = files.tumours, files.digits, files.licences
    monkeypatch.setattr(files, "tumours", lambda part, **how: tumours(slice(part.start, part.start + 4), **how))
    monkeypatch.setattr(files, "digits", lambda part, **how: digits(slice(part.start, part.start + 2), **how))
    monkeypatch.setattr(files, "licences", lambda part: licences(part)[:4])
    progress.begin(loader.STEPS)
    return books


@pytest.fixture
def cast(demo):
    assert loader.ring("people")
    return demo


def test_what_people_send_neither_stops_the_demo_nor_is_decided_by_it(cast):
    assert loader.ring("datanets")
    assert not loader.ring("records")

    # Given a person who uses Bob's account and has a submission of a demo's title checked, and one of Alice's unfinished
    sent = Submission.objects.get(pk=progress.made("records")["Firms A to G"])
    stranger = submissions.start(datanet=sent.datanet, contributor=people.person("bob"), title=sent.title)
    content = files.table_csv(*files.grunfeld_rows())
    uploads.receive_file(stranger, name="more.csv", stream=io.BytesIO(content), size_bytes=len(content))
    submissions.sign_and_send(stranger, by=stranger.contributor)
    unfinished = submissions.start(datanet=sent.datanet, contributor=people.person("alice"), title=sent.title)
    for submission in Submission.objects.exclude(pk=unfinished.pk):
        for file in submission.files.all():
            checking.check_file(file.pk)

    # When the demo goes on
    assert loader.ring("records")
    assert loader.ring("reviews")

    # Then Carol has decided on all that the demo sent, and the person's submissions wait for somebody
    own = Submission.objects.filter(pk__in=progress.made("records").values())
    assert set(own.values_list("status", flat=True)) == {"decided"}
    assert not Record.objects.filter(submission__in=own, status="waiting").exists()
    stranger.refresh_from_db()
    unfinished.refresh_from_db()
    assert (stranger.status, unfinished.status) == ("in_review", "receiving")
    assert not stranger.records.exclude(status="waiting").exists()

    # And what is done is not done again, whatever people did since
    assert loader.ring("reviews") and loader.ring("records")
    assert Submission.objects.count() == own.count() + 2


def test_demo_json_tells_where_and_who_and_is_readable_for_its_owner_only(cast, settings):
    loader.tell(first_start=True)
    told = state.read()
    assert stat.S_IMODE((settings.STATE_DIR / "demo.json").stat().st_mode) == 0o600
    assert {"site", "gateway", "users", "api_key", "models", "log_vkey", "witness_vkeys"} <= set(told)
    assert told["users"].keys() == USERS and told["models"] == MODELS
    assert not told["site"].endswith("/") and not told["gateway"].endswith("/")
    for user in told["users"].values():
        account = people.User.objects.get(email=user["email"])
        assert account.check_password(user["password"])
    assert not told["complete"]


def test_the_demo_lists_the_bundled_embedding_model_once_and_no_data_is_paid_for_it(cast):
    assert loader.ring("embeddings") and loader.admin_lists_embeddings()

    model = ListedModel.objects.get(owner=people.person("devi"), slug="text-embeddings")
    assert model.listed_at is not None and model.versions.count() == model.price_lists.count() == 1
    assert (model.split_rule.data_bp, model.split_rule.curation_bp) == (0, 0)


def test_a_lost_demo_json_is_written_anew_with_passwords_and_a_key_that_work(cast, settings):
    loader.tell(first_start=True)
    before = state.read()
    os.unlink(settings.STATE_DIR / "demo.json")

    loader.tell(first_start=False)
    buyer = state.read()["users"]["buyer"]
    assert buyer["password"] != before["users"]["buyer"]["password"]
    assert people.person("dan").check_password(buyer["password"])
    assert calls.key_secret() == state.read()["api_key"] != before["api_key"]


def test_people_are_created_with_the_passwords_of_an_interrupted_start(demo):
    known = people.new_passwords()
    state.write({"passwords": known})

    assert loader.ring("people")
    assert all(people.person(handle).check_password(password) for handle, password in known.items())


def test_a_revoked_key_is_replaced_even_if_the_buyer_has_another(cast):
    secret = calls.key_secret()
    assert calls.key_secret() == secret

    dan = people.person("dan")
    keys.create(owner=dan, name="Mine")
    keys.revoke(ApiKey.objects.get(owner=dan, name="Demo"), by=dan)
    assert calls.key_secret() not in ("", secret)


def test_a_step_that_fails_is_rung_again(demo):
    # Given a step that needs somebody who is not there
    waiting = redis.Redis.from_url(os.environ["REDIS_URL"])
    before = waiting.llen("celery")

    tasks.load_demo()
    assert waiting.llen("celery") == before + 1
    assert progress.next_of(loader.REST) == "more records"


def test_two_chains_that_load_the_demo_become_one(cast):
    waiting = redis.Redis.from_url(os.environ["REDIS_URL"])
    before = waiting.llen("celery")
    other = cast.connect()
    other.cursor().execute("SELECT pg_advisory_lock(hashtextextended('demo', 0))")
    try:
        tasks.load_demo()
    finally:
        other.close()
    assert waiting.llen("celery") == before
    assert progress.made("more records") == {}
