"""Money by program: parts that add up, amounts that can be recomputed, the page's own statement, and no way out by token."""

from __future__ import annotations

from decimal import Decimal

from django.db import transaction

from attribution.models import Line
from ledger import chart
from ledger import services as ledger
from marketplace.models import Access, ApiKey, AuditEvent
from tests.api.world import client_of, program_of
from tests.shop import OPEN

V1 = "/api/v1"
ROLES = ("data", "curation", "developer", "platform", "owner")


def said(answer, status: int = 200):
    assert answer.status_code == status, answer.content[:500]
    return answer.json() if answer.content else None


def test_the_parts_of_a_call_add_up_to_its_cost_in_both_forms(world):
    call = said(program_of(world.person("dan")).get(f"{V1}/calls/{world.ids['call_id']}/"))

    assert sum(int(call["split"][f"{role}_nano"]) for role in ROLES) == int(call["cost_nano"]) == 24_000_000
    assert sum(Decimal(call["split"][f"{role}_open"]) for role in ROLES) == Decimal(call["cost_open"])
    assert call["attribution"] == "posted"


def test_every_amount_of_a_call_is_recomputed_from_what_the_answer_says(world):
    found = said(program_of(world.person("dan")).get(f"{V1}/calls/{world.ids['call_id']}/attribution/"))

    split, total = int(found["split_nano"]), int(found["weights_total"])
    assert split == int(found["data_nano"]) * found["causal_millionths"] // 1_000_000
    for one in found["records"]:
        assert int(one["weight"]) == max(int(one["score"]), 0) * one["phi"]
        assert int(one["amount_nano"]) == split * int(one["weight"]) // total + one["got_remainder"]
    paid = sum(int(line["amount_nano"]) for line in found["lines"])
    assert paid == int(found["data_nano"]) + int(found["curation_nano"])


def test_a_payees_line_is_recomputed_from_what_the_answer_says(world):
    alice = program_of(world.person("alice"))
    line = said(alice.get(f"{V1}/earnings/lines/{world.ids['line_id']}/"))

    assert sum(int(part["amount_nano"]) for part in line["mine"]) == int(line["amount_nano"])
    assert sum(int(part["amount_nano"]) for part in line["mine"]) + int(line["others_nano"]) == int(
        line["divided_nano"]
    )
    assert int(line["divided_nano"]) + int(line["left_nano"]) == int(line["part_nano"])


def test_the_statement_is_the_file_of_the_page(world):
    client = client_of(world.person("alice"))

    by_program = client.get(f"{V1}/earnings/statement/")
    by_page = client.get("/en/earnings/statement.json")

    assert by_program.content == by_page.content
    assert by_program.json()["rows"]


def test_payments_are_the_rows_of_the_statement(world):
    alice = program_of(world.person("alice"))
    payments = said(alice.get(f"{V1}/earnings/payments/"))["results"]
    rows = said(alice.get(f"{V1}/earnings/statement/"))["rows"]

    assert [(one["model"], one["role"], one["amount_open"]) for one in payments] == [
        (row["model"], row["role"], row["amount"]) for row in rows
    ]
    assert sum(int(one["amount_nano"]) for one in payments) == int(said(alice.get(f"{V1}/earnings/"))["lifetime_nano"])
    lines = said(alice.get(f"{V1}/earnings/payments/{payments[0]['epoch']}/{payments[0]['role']}/lines/"))["results"]
    assert sum(int(line["amount_nano"]) for line in lines) == int(payments[0]["amount_nano"])


def test_a_statement_is_filtered_by_datanet_and_record(world):
    alice = program_of(world.person("alice"))
    every = said(alice.get(f"{V1}/earnings/statement/"))["rows"]
    record = world.ids["record_id"]

    def rows(query: str) -> list[dict]:
        return said(alice.get(f"{V1}/earnings/statement/?{query}"))["rows"]

    assert (
        rows("datanet=erin/tumours")
        == rows(f"record={record}")
        == [row for row in every if row["role"] == "data"]
        != []
    )
    assert rows("record=999999") == []
    said(alice.get(f"{V1}/earnings/statement/?datanet=erin/{world.ids['on_request']}"), 404)


def test_a_statement_is_filtered_as_on_the_page(world):
    alice = program_of(world.person("alice"))

    assert said(alice.get(f"{V1}/earnings/statement/?model=devi/check"))["rows"]
    assert said(alice.get(f"{V1}/earnings/statement/?model=devi/invited"))["rows"] == []
    assert said(alice.get(f"{V1}/earnings/statement/?until=2020-01-01"))["rows"] == []
    said(alice.get(f"{V1}/earnings/statement/?model=devi/none"), 404)


def test_a_receipt_is_public_and_opened_only_for_who_took_part(world):
    address = f"{V1}/receipts/{world.ids['call_id']}/"
    public = said(client_of(None).get(address))
    held = said(program_of(world.person("dan")).get(address))
    paid = said(program_of(world.person("devi")).get(address))

    assert "openings" not in public["receipt"]
    assert (public["is_holder"], held["is_holder"], paid["is_holder"]) == (False, True, False)
    assert held["receipt"]["openings"]["price"]["value"]
    assert {name.split(".")[0] for name in paid["receipt"]["openings"]} == {"split"}
    assert said(client_of(None).get(f"{address}?part=attribution"))["type"] == "call.attributed"


def test_a_receipt_is_verified_and_a_changed_one_is_not(world):
    receipt = said(program_of(world.person("dan")).get(f"{V1}/receipts/{world.ids['call_id']}/"))["receipt"]
    nobody = client_of(None)

    assert said(nobody.post(f"{V1}/receipts/verify/", receipt, format="json"))["verified"] is True
    receipt["openings"]["price"]["value"] = "1"
    assert said(nobody.post(f"{V1}/receipts/verify/", receipt, format="json"))["verified"] is False


def test_the_wallet_is_the_ledgers_and_its_statement_adds_up(world):
    alice = program_of(world.person("alice"))
    wallet = said(alice.get(f"{V1}/wallet/"))
    balance = ledger.balance(chart.wallet(world.person("alice").pk))

    assert (int(wallet["available_nano"]), int(wallet["held_nano"])) == (balance.available_nano, balance.held_nano)
    rows, address = [], f"{V1}/wallet/statement/?limit=1"
    while address:
        page = said(alice.get(address))
        rows, address = rows + page["results"], page["next"]
    assert sum(int(row["amount_nano"]) for row in rows) == int(rows[0]["balance_after_nano"])


def test_a_withdrawal_is_held_until_it_is_cancelled(world):
    alice = client_of(world.person("alice"))
    with transaction.atomic():
        before = int(said(alice.get(f"{V1}/wallet/"))["available_nano"])
        made = said(alice.post(f"{V1}/withdrawals/", {"amount_nano": str(OPEN)}, format="json"), 201)
        assert int(said(alice.get(f"{V1}/wallet/"))["available_nano"]) == before - OPEN
        assert said(alice.delete(f"{V1}/withdrawals/{made['id']}/"))["status"] == "cancelled"
        assert int(said(alice.get(f"{V1}/wallet/"))["available_nano"]) == before
        transaction.set_rollback(True)


def test_money_for_free_calls_is_set_aside_once_per_reference_and_taken_back(world):
    alice = client_of(world.person("alice"))
    promotion = f"{V1}/wallet/promotion"
    asked = {"amount_nano": str(OPEN), "reference": "spring"}
    with transaction.atomic():
        before = int(said(alice.get(f"{V1}/wallet/"))["available_nano"])
        made = said(alice.post(f"{promotion}/fund/", asked, format="json"), 201)
        assert said(alice.post(f"{promotion}/fund/", asked, format="json"), 201) == made
        other = alice.post(f"{promotion}/fund/", asked | {"amount_nano": "1"}, format="json")
        assert said(other, 422)["error"]["code"] == "invalid_value"
        assert int(said(alice.get(f"{V1}/wallet/"))["available_nano"]) == before - OPEN
        # What was set aside arrives with the next fold, so nothing can be taken back yet
        early = alice.post(f"{promotion}/take-back/", asked | {"reference": "back"}, format="json")
        assert said(early, 409)["error"]["code"] == "not_ready"
        transaction.set_rollback(True)

    assert said(alice.get(f"{promotion}/")) == {
        name: value
        for kind in ("available", "held")
        for name, value in ((f"{kind}_nano", "0"), (f"{kind}_open", "0.000000000"))
    }
    assert said(alice.get(f"{promotion}/statement/"))["results"] == []


def test_free_calls_of_a_model_are_set_by_its_owner_and_told_to_everybody(world):
    devi, address = program_of(world.person("devi")), f"{V1}/models/devi/check/"
    with transaction.atomic():
        assert said(devi.patch(address, {"free_calls_per_day": 10}, format="json"))["free_calls_per_day"] == 10
        assert said(client_of(None).get(address))["free_calls_per_day"] == 10
        said(devi.patch(address, {"free_calls_per_day": 1001}, format="json"), 400)
        transaction.set_rollback(True)


def test_who_has_too_little_is_told_402_and_nothing_is_sold(world):
    zoe = program_of(world.person("zoe"))
    before = Access.objects.count()

    with transaction.atomic():
        answer = zoe.post(f"{V1}/models/devi/passes/passes/", headers={"accept-language": "fr"})
        transaction.set_rollback(True)

    error = said(answer, 402)["error"]
    assert error["code"] == "insufficient_funds"
    assert "Votre portefeuille ne contient pas assez" in error["message"]
    assert "nano" not in error["message"]
    assert Access.objects.count() == before


def test_a_keys_secret_is_shown_once_and_never_again(world):
    dan = client_of(world.person("dan"))
    with transaction.atomic():
        caps = {"spend_cap_nano": "5000000000", "spend_cap_day_nano": "1000000000"}
        given = {
            "name": "Batch",
            "models": ["devi/check"],
            "scopes": ["call"],
            "calls_at_once": 3,
            "content_days": 0,
        } | caps
        made = said(dan.post(f"{V1}/keys/", given, format="json"), 201)
        assert made["secret"].startswith("open_sk_")
        assert (made["spend_cap_open"], made["models"]) == ("5.000000000", ["devi/check"])
        assert (made["scopes"], made["calls_at_once"], made["last_used_at"]) == (["call"], 3, None)
        assert made["content_days"] == 0
        assert (made["spend_cap_day_open"], made["spend_cap_month_nano"]) == ("1.000000000", None)
        assert made["secret"] not in dan.get(f"{V1}/keys/").content.decode()
        assert said(dan.delete(f"{V1}/keys/{made['id']}/"), 204) is None
        assert ApiKey.objects.get(pk=made["id"]).revoked_at
        transaction.set_rollback(True)


def test_a_key_is_changed_by_what_is_given_and_keeps_the_rest(world):
    dan = client_of(world.person("dan"))
    with transaction.atomic():
        given = {"name": "Page", "spend_cap_month_nano": "5", "models": ["devi/check"], "scopes": ["call"]}
        key = said(dan.post(f"{V1}/keys/", given, format="json"), 201)
        here = f"{V1}/keys/{key['id']}/"
        changed = said(dan.patch(here, {"spend_cap_nano": "7", "requests_per_minute": 3}, format="json"))
        assert (changed["spend_cap_nano"], changed["spend_cap_month_nano"]) == ("7", "5")
        assert (changed["models"], changed["scopes"], changed["name"]) == (["devi/check"], ["call"], "Page")
        changed = said(dan.patch(here, {"spend_cap_month_nano": None, "models": [], "scopes": ["read"]}, format="json"))
        assert (changed["spend_cap_month_nano"], changed["models"], changed["scopes"]) == (None, [], ["read"])
        said(dan.patch(here, {"models": ["devi/unlisted"]}, format="json"), 404)
        said(dan.patch(here, {"spend_cap": "7"}, format="json"), 400)
        said(dan.patch(here, {"spend_cap_nano": "0"}, format="json"), 422)
        said(dan.delete(here), 204)
        said(dan.patch(here, {"name": "Late"}, format="json"), 409)
        transaction.set_rollback(True)


def test_a_key_is_replaced_by_program_of_a_person_and_the_old_one_ends_later(world):
    dan = client_of(world.person("dan"))
    with transaction.atomic():
        given = {"name": "Page", "spend_cap_month_nano": "5", "allowed_origins": ["https://App.example.org"]}
        old = said(dan.post(f"{V1}/keys/", given, format="json"), 201)
        here = f"{V1}/keys/{old['id']}/replace/"
        said(dan.post(here, {"overlap_s": 5}, format="json"), 422)
        said(dan.post(here, {"overlap_s": "3600"}, format="json"), 400)
        new = said(dan.post(here, {"overlap_s": 3600}, format="json"), 201)
        assert (new["name"], new["spend_cap_month_nano"], new["allowed_origins"]) == (
            *("Page", "5"),
            ["https://app.example.org"],
        )
        assert new["secret"].startswith("open_sk_")
        said(dan.post(here, {}, format="json"), 409)
        shown = {key["id"]: key for key in said(dan.get(f"{V1}/keys/"))["results"]}
        assert shown[old["id"]]["replaced_until"] > shown[new["id"]]["created_at"]
        assert (shown[old["id"]]["revoked_at"], shown[new["id"]]["replaced_until"]) == (None, None)
        said(dan.post(f"{V1}/keys/", given | {"allowed_origins": ["https://a.org/path"]}, format="json"), 422)
        said(dan.post(f"{V1}/keys/", given | {"calls_at_once": 0}, format="json"), 400)
        said(dan.post(f"{V1}/keys/", given | {"content_days": 31}, format="json"), 400)
        transaction.set_rollback(True)


def test_a_model_is_made_priced_trained_and_listed_only_with_a_version(world):
    devi = program_of(world.person("devi"))
    with transaction.atomic():
        prices = {"price_call_nano": "5", "price_in_nano": "0", "price_out_nano": "0", "price_abstain_nano": "2"}
        given = {"name": "New", "purpose": "Tests", "engine": "neighbours", "prices": prices}
        made = said(devi.post(f"{V1}/models/", given, format="json"), 201)
        assert (made["path"], made["price_call_open"]) == ("devi/new", "0.000000005")
        assert made["price_abstain_nano"] == "2"
        said(devi.post(f"{V1}/models/devi/new/prices/", prices | {"price_abstain_nano": "6"}, format="json"), 422)
        here = f"{V1}/models/devi/new"
        said(devi.put(f"{here}/listing/"), 409)
        said(client_of(None).get(f"{here}/"), 404)
        split = {"data": 5000, "curation": 0, "developer": 4000, "platform": 1000, "owner": 0}
        changed = said(devi.patch(f"{here}/", {"name": "Newer", "split": split}, format="json"))
        assert (changed["name"], changed["split"], changed["purpose"]) == ("Newer", split, "Tests")
        said(devi.patch(f"{here}/", {"access_mode": "pass"}, format="json"), 422)
        said(devi.patch(f"{here}/", {"engine": "linear"}, format="json"), 400)
        wrong = {"versions": ["erin/tumours@v1"], "settings": {"l2": 1}}
        said(devi.post(f"{here}/training-runs/", wrong, format="json"), 422)
        run = said(
            devi.post(f"{here}/training-runs/", wrong | {"settings": {"k": 3}}, format="json"),
            201,
        )
        assert (run["status"], run["datanet_versions"]) == ("waiting", ["erin/tumours@v1"])
        assert said(devi.get(f"{V1}/training-runs/{run['id']}/"))["settings"] == {"k": 3}
        transaction.set_rollback(True)


def test_the_revenue_report_is_zero_and_the_same_for_every_form(world):
    report = said(program_of(world.person("ada")).get(f"{V1}/admin/revenue/"))

    assert report["difference_nano"] == "0"
    total = sum(int(row["business_nano"]) for row in report["rows"])
    assert total == int(report["charged_nano"]) - int(report["refunded_nano"])
    later = said(program_of(world.person("ada")).get(f"{V1}/admin/revenue/?since=2999-01-01"))
    left = sum(int(row["business_nano"]) for row in report["rows"] if row["role"] == "pool")
    assert (later["charged_nano"], later["opening_nano"], later["difference_nano"]) == ("0", str(left), "0")


def test_a_payout_run_needs_two_admins_by_program_too(world):
    ada, ben = client_of(world.person("ada")), client_of(world.person("ben"))
    here = f"{V1}/admin/payout-runs/{world.ids['draft_run']}"
    with transaction.atomic():
        checked = said(program_of(world.person("ada")).post(f"{here}/recompute/"))
        assert (checked["rows_that_differ"], checked["run_difference_nano"]) == (0, "0")
        assert said(ada.post(f"{here}/approve/"))["status"] == "draft"
        said(ada.get(f"{here}/export/"), 409)
        assert said(ada.post(f"{here}/approve/"))["status"] == "draft"
        said(ada.post(f"{here}/send/"), 409)
        assert said(ben.post(f"{here}/approve/"))["status"] == "approved"
        assert "DE89370400440532013000" in ada.get(f"{here}/export/").content.decode()
        assert said(ada.post(f"{here}/send/"))["status"] == "sent"
        acts = AuditEvent.objects.filter(target=f"payout_run:{world.ids['draft_run']}").values_list("act", flat=True)
        assert {"recompute_payout_run", "export_payout_run"} <= set(acts)
        transaction.set_rollback(True)


def test_the_token_is_made_and_ended(world):
    browser = client_of(world.person("dan"))
    with transaction.atomic():
        first = said(browser.post(f"{V1}/token/"), 201)["token"]
        second = said(browser.post(f"{V1}/token/"), 201)["token"]
        program = client_of(None)
        program.credentials(HTTP_AUTHORIZATION=f"Token {first}")
        said(program.get(f"{V1}/me/"), 401)
        program.credentials(HTTP_AUTHORIZATION=f"Token {second}")
        assert said(program.get(f"{V1}/me/"))["handle"] == "dan"
        said(program.delete(f"{V1}/token/"), 204)
        said(program.get(f"{V1}/me/"), 401)
        transaction.set_rollback(True)


def test_the_log_is_read_by_everybody_from_its_newest_entry_to_its_first(world):
    nobody = client_of(None)
    head = said(nobody.get(f"{V1}/ledger/"))
    seen, address = [], f"{V1}/ledger/entries/?limit=20"
    while address:
        page = said(nobody.get(address))
        seen, address = seen + [row["index"] for row in page["results"]], page["next"]

    assert seen == list(range(head["leaves"]))[::-1]
    charged = said(nobody.get(f"{V1}/ledger/entries/?type=call.charged"))["results"]
    assert [row["id"] for row in charged] == [str(world.ids[name]) for name in ("asked_back", "disputed", "call_id")]
    assert str(world.person("dan").pk) not in str(charged[0]["entry"].get("private", ""))
    assert said(nobody.get(f"{V1}/ledger/checkpoints/{head['size']}/"))["root"] == head["root"]


def test_a_line_of_somebody_else_does_not_exist(world):
    line = Line.objects.exclude(payee=world.person("zoe")).first()

    said(program_of(world.person("zoe")).get(f"{V1}/earnings/lines/{line.pk}/"), 404)


def test_lists_cost_the_same_queries_for_one_row_as_for_many(world, django_assert_max_num_queries):
    for name, address, most in (
        ("dan", "calls", 4),
        ("dan", "accesses", 4),
        ("dan", "keys", 5),
        ("alice", "submissions", 4),
        ("alice", "withdrawals", 4),
        ("alice", "earnings/payments", 12),
        ("alice", f"submissions/{world.ids['in_review']}/records", 5),
        ("carol", "reviews/queue", 5),
        ("carol", f"reviews/submissions/{world.ids['in_review']}/records", 9),
        ("devi", "models/devi/check/training-runs", 8),
        ("devi", "models/devi/check/versions", 7),
        ("ada", "admin/payout-runs", 4),
        ("ada", "ledger/entries", 4),
    ):
        client = program_of(world.person(name))
        with django_assert_max_num_queries(most):
            said(client.get(f"{V1}/{address}/"))


def test_a_models_version_says_what_was_measured(world):
    [version] = said(client_of(None).get(f"{V1}/models/devi/check/versions/"))["results"]

    assert (version["path"], version["datanet_versions"]) == ("devi/check@v1", ["erin/tumours@v1"])
    assert version["method"]
    assert version["metrics"]
    assert version["settings"] == {"l2": 1.0}  # nobody named it
