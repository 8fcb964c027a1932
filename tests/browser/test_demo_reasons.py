"""Over the demo's Datanets: four records that no call paid, four different reasons, all true; and calls that add up.

And a question to its chat model, whose answer the page streams.
"""

from __future__ import annotations

import re

import pytest
from django.core.management import call_command
from playwright.sync_api import Browser, Page, expect

from attribution import explain_records, planning
from attribution.models import RecordEpoch, Trace
from datanets import submissions
from datanets.models import Datanet, Record, Version, VersionFollower
from demo import calls, files, loader, state
from demo.names import EMBEDDINGS
from devstack import probes
from marketplace import keys, listings, pricing
from marketplace.models import ApiKey, Call, Deposit, ListedModel, TrainingRun
from tests.browser.demo_site import loaded_demo, needs_the_chat_model, work
from tests.datanets.cast import person
from tests.datanets.pages.browsing import (  # noqa: F401  (two fixtures)
    accessibility_problems,
    follow,
    no_idle_session,
    sign_in,
    site,
)

pytestmark = pytest.mark.browser


def test_four_records_that_no_call_paid_give_four_true_reasons(books, browser, site, tmp_path, monkeypatch, capfd):  # noqa: F811
    needs_the_chat_model()
    with loaded_demo(books, tmp_path, monkeypatch, site=site):
        mislabelled = first_record("max", loader.TUMOURS, reason="net_negative")
        copied = first_record("mallory", loader.TUMOURS, reason="follower")
        junk = first_record("jules", loader.LICENCES, reason="rejected")
        unread = first_record("bob", loader.LICENCES, reason="no_call")

        said = {record: reason_on_its_page(browser, site, record) for record in (mislabelled, copied, junk, unread)}
        assert len(set(said.values())) == 4

        its_label_is_wrong(mislabelled)
        the_sums_are_those_of_every_call(mislabelled, said[mislabelled])
        its_leader_came_first(browser, site, copied, said[copied])
        a_curator_rejected_it_with_a_note(browser, site, junk, said[junk])
        no_call_has_a_score_for_it(unread, said[unread])

        dan = sign_in(browser, site, loader.person("dan")).new_page()
        for model in (loader.MODELS["chat"], loader.MODELS["tabular"]):
            call = Call.objects.filter(model__slug=model, cost_nano__gt=0).latest("finished_at")
            every_amount_follows_from_the_page(dan, call)

        every_copy_follows_alice()
        what_an_embedding_costs_feeds_no_pool()
        the_page_streams_an_answer_and_says_why(dan)
        who_cannot_pay_is_told_so_in_their_language(sign_in(browser, site, person("zoe")).new_page())
        a_second_start_leaves_the_demo_as_people_left_it()
    # Neither gateway nor models process wrote what it was asked or answered: no erasure reaches their output
    written = "".join(capfd.readouterr())
    assert [word for word in (*calls.QUESTIONS, WORD) if word in written] == []


# --- The records and their pages


def first_record(handle: str, slug: str, *, reason: str) -> Record:
    found = Record.objects.filter(contributor__username=handle, datanet__slug=slug).order_by("pk")
    records = found.select_related("contributor", "body", "submission").defer("signature", "bands")
    return next(record for record in records if explain_records.why_record(record).reason == reason)


def reason_on_its_page(browser: Browser, site: str, record: Record) -> str:  # noqa: F811
    """The one sentence that its contributor reads."""
    page = sign_in(browser, site, record.contributor).new_page()
    page.goto(f"/en/records/{record.pk}/")
    why = page.locator("main .callout", has_text="Why nothing")
    expect(why).to_have_count(1)
    assert accessibility_problems(page) == []
    return re.sub(r"^Why nothing( from calls)?:\s*", "", why.inner_text().strip())


def its_label_is_wrong(record: Record) -> None:
    """The public table, which the demo was made from, says the other diagnosis for these measurements."""
    *columns, label = files.tumour_columns()
    of = {tuple(map(float, row[:-1])): row[-1] for row in files.tumours(files.MAX_TUMOURS)}
    body = record.body.body
    confirmed = of[tuple(float(body[name]) for name in columns)]
    assert {confirmed, body[label]} == {"benign", "malignant"}


def scores_by_record(trace: Trace) -> dict[int, int]:
    call = planning.epoch_call(trace)
    records = planning.roster_of(trace.artifact_id).record_ids[call.places]
    return dict(zip(records.tolist(), call.scores.tolist(), strict=True))


def the_sums_are_those_of_every_call(record: Record, sentence: str) -> None:
    calls, net, positive, negative = numbers_in(sentence)
    newest = RecordEpoch.objects.filter(record=record).latest("epoch__number")
    assert (net, positive) == (newest.net, newest.positive)
    assert positive - negative == net < 0

    found = [
        (planning.epoch_call(trace).split_nano, scores_by_record(trace).get(record.pk))
        for trace in Trace.objects.filter(source="call", model_version_id=newest.model_version_id)
    ]
    credits = [split_nano * score for split_nano, score in found if score is not None]
    assert calls == len(credits) > 1
    assert net == sum(credits)
    assert positive == sum(credit for credit in credits if credit > 0)


def its_leader_came_first(browser: Browser, site: str, record: Record, sentence: str) -> None:  # noqa: F811
    (named,) = numbers_in(sentence)
    page = sign_in(browser, site, record.contributor).new_page()
    page.goto(f"/en/records/{record.pk}/")
    follow(page.get_by_role("link", name=f"record {named}"))
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Record {named}")
    expect(page.locator("aside .who, aside .avatar, aside dd").first).to_contain_text("alice")

    leader = Record.objects.select_related("submission").get(pk=named)
    followers = Record.objects.filter(pk__in=VersionFollower.objects.filter(leader=leader).values("record"))
    assert record in followers
    assert all(leader.submission.sent_at < other.submission.sent_at for other in followers.select_related("submission"))
    assert explain_records.why_record(leader).leader_id is None


def a_curator_rejected_it_with_a_note(browser: Browser, site: str, record: Record, sentence: str) -> None:  # noqa: F811
    review = record.reviews.get()
    assert (review.curator.username, review.decision) == ("carol", "reject")
    assert sentence == f"A curator rejected it: {review.get_reason_display()}."
    page = sign_in(browser, site, record.contributor).new_page()
    page.goto(f"/en/contribute/{record.submission_id}/")
    expect(page.locator(f"#record-{record.pk}")).to_contain_text(review.get_reason_display())
    expect(page.locator(f"#record-{record.pk} blockquote")).to_have_text(review.note)


def no_call_has_a_score_for_it(record: Record, sentence: str) -> None:
    assert sentence == "No settled call used it."
    traces = Trace.objects.filter(source="call")
    chats = set(Call.objects.filter(model__slug=loader.MODELS["chat"], cost_nano__gt=0).values_list("pk", flat=True))
    scores = [scores_by_record(trace) for trace in traces if trace.charge_id in chats]
    assert len(scores) == len(chats) > 0
    assert not any(record.pk in of_call for of_call in scores)


def every_copy_follows_alice() -> None:
    copies = Record.objects.filter(contributor__username="mallory")
    leaders = VersionFollower.objects.filter(record__in=copies).values_list("record", "leader__contributor__username")
    assert dict(leaders) == dict.fromkeys(copies.values_list("pk", flat=True), "alice")
    assert copies.count() == 2 * files.COPIES == 60


# --- A second start


def a_second_start_leaves_the_demo_as_people_left_it() -> None:
    """Whoever starts the site again finds what they left, and a demo.json that works."""
    told = state.read()
    assert told["complete"] and told["first_start"]
    devi, dan, alice = map(loader.person, ("devi", "dan", "alice"))
    unlisted = ListedModel.objects.get(owner=devi, slug=loader.MODELS["chat"])
    listings.unlist_model(unlisted, by=devi)
    keys.create(owner=dan, name="Mine")
    keys.revoke(ApiKey.objects.get(owner=dan, name="Demo"), by=dan)
    unsent = submissions.start(datanet=Datanet.objects.get(slug=loader.TUMOURS), contributor=alice)
    before = (Record.objects.count(), Version.objects.count(), Deposit.objects.count(), TrainingRun.objects.count())

    call_command("demo", first=True)

    after = (Record.objects.count(), Version.objects.count(), Deposit.objects.count(), TrainingRun.objects.count())
    assert after == before
    unlisted.refresh_from_db()
    unsent.refresh_from_db()
    assert unlisted.listed_at is None and unsent.status == "receiving"
    again = state.read()
    assert again["complete"] and not again["first_start"]
    assert again["users"] == told["users"] and again["api_key"] != told["api_key"]
    assert probes.paid_classify(again)
    assert "404" in str(probes.paid_chat(again))


# --- A call


def what_an_embedding_costs_feeds_no_pool() -> None:
    call = Call.objects.get(model__slug=EMBEDDINGS)
    assert (call.status, call.endpoint) == ("succeeded", "embeddings")
    assert call.cost_nano == call.developer_nano + call.platform_nano > 0


def every_amount_follows_from_the_page(page: Page, call: Call) -> None:
    """Redo, with nothing but the integers that the receipt's page shows, what the call's records were paid."""
    page.goto(f"/en/calls/{call.pk}/why/")
    shown = amounts_in(page, "#why-panel .earn")
    assert shown
    follow(page.get_by_role("link", name="Open receipt"))

    rule = page.locator("#records + p").inner_text()
    part, causal, million, split, _again, weights = numbers_in(rule)[:6]
    assert split == part * causal // million
    rows = page.get_by_role("region", name="For which record").locator("tbody tr").all()
    paid = [paid_by_the_rule(row, split=split, weights=weights) for row in rows if row.locator("td").count() == 5]
    left = [numbers_in(row.locator("td").nth(1).inner_text()) for row in rows if row.locator("td").count() == 3]
    assert paid[: len(shown)] == shown
    assert sum(paid) + sum(nano for (nano,) in left) == split

    *parts, price = amounts_in(page, "section:has(#paid)")
    assert sum(parts) == price == call.cost_nano


# --- A question


WORD = "kanari-in-a-question"
CHAT = f"models/devi/{loader.MODELS['chat']}/"


def the_page_streams_an_answer_and_says_why(page: Page) -> None:
    page.goto(f"/en/{CHAT}")
    page.get_by_label("Your question").fill(f"{calls.QUESTIONS[0]} {WORD}")
    page.get_by_role("button", name="Send").click()
    answer = page.locator("#answer .ai")
    expect(answer.locator(".ai-ft")).to_contain_text("OPEN", timeout=60_000)

    call = Call.objects.latest("finished_at")
    assert (call.status, call.streamed, call.buyer.username) == ("succeeded", True, "dan")
    assert len(answer.locator("p").first.inner_text()) > 20
    expect(answer.locator(".ai-ft .num")).to_have_text(f"Cost: {pricing.nano_to_open(call.cost_nano)} OPEN")
    expect(answer.get_by_role("link", name="Receipt")).to_have_attribute("href", f"/r/{call.pk}")
    expect(page.locator("#why")).to_contain_text("Being measured.")
    work()
    expect(page.locator("#why .attr .who").first).to_be_visible()  # the panel asks again by itself
    assert accessibility_problems(page) == []


def who_cannot_pay_is_told_so_in_their_language(page: Page) -> None:
    page.goto(f"/fr/{CHAT}")
    page.locator("form[data-playground] textarea").fill(calls.QUESTIONS[0])
    page.locator("form[data-playground] [value=send]").click()
    expect(page.locator("#answer [role=alert]")).to_contain_text("Votre portefeuille ne couvre pas")


def paid_by_the_rule(row, *, split: int, weights: int) -> int:
    nano, score, phi, weight = (row.locator("td").nth(place).inner_text() for place in range(1, 5))
    assert int(weight) == max(int(score), 0) * int(phi)
    amount = split * int(weight) // weights + ("(+1)" in nano)
    assert amount == int(nano.split()[0])
    return amount


def amounts_in(page: Page, place: str) -> list[int]:
    return [int(amount.get_attribute("value")) for amount in page.locator(f"{place} data").all()]


def numbers_in(text: str) -> list[int]:
    """Whole numbers of a sentence, grouped or not, with the real minus."""
    return [int(found.replace(",", "").replace("\u2212", "-")) for found in re.findall(r"\u2212?\d[\d,]*", text)]
