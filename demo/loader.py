"""Loads the demo through the same services that pages and the API call. It tells the product nothing about anybody.

Every step is a function that goes as far as it can and returns whether it is finished, so that it can be rung again
after any interruption: by `manage.py demo --first` in a loop, and by Celery for the rest.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from accounts.models import User
from attribution import explain
from datanets import reviews, submissions, uploads
from datanets import services as datanets
from datanets.models import Datanet, Membership, Record, Submission, Version
from demo import files
from demo.people import CAST, create_all, email_of, person
from ledger import chart
from ledger import services as ledger
from marketplace import keys, listings, publishing, samples, training, wallets
from marketplace.models import ApiKey, Call, DemoProgress, Deposit, ListedModel, TrainingRun

logger = logging.getLogger(__name__)

OPEN = 10**9
LICENCES, TUMOURS, FINANCIALS, DIGITS = (
    "open-source-licences",
    "breast-tumours",
    "company-financials",
    "handwritten-digits",
)
MODELS = {
    "chat": "licence-chat",
    "tabular": "tumour-check",
    "financial": "investment-estimate",
    "image": "digit-reader",
}
NEIGHBOURS = "digit-neighbours"
# A curator's eye in code: she rejects blank pictures and what is too short to be a licence.
REJECTED_FLAGS = {"image_quality"}
LICENCE_WORDS_MIN = 25
QUESTIONS = (
    "May I sell software that contains code under the MIT licence?",
    "What must I do when I change files under the Apache licence?",
    "Does the zlib licence let me claim that I wrote the original software?",
    "Who is liable for damages under the ISC licence?",
    "May I use the name of the copyright holder of BSD software to promote my product?",
    "What does the Unlicense say about copyright?",
)


# --- The parts of the demo


def people_sign_up() -> bool:
    state = read_state()
    create_all(state.setdefault("passwords", {}))
    write_state(state)
    return True


def admins_record_deposits() -> bool:
    for handle, amount_open in (("devi", 2_000), ("dan", 500), ("olivia", 50)):
        reference = f"demo-{handle}"
        if not Deposit.objects.filter(external_reference=reference).exists():
            wallets.record_deposit(
                user=person(handle), amount_nano=amount_open * OPEN, external_reference=reference, by=person("erin")
            )
    return ledger.balance_nano(chart.wallet(person("devi").pk)) > 0


def owner_creates_datanets() -> bool:
    shared = {
        "rights_statement": "I have the right to share these records under the licence of this Datanet.",
        "language": "en",
    }
    _datanet(
        LICENCES,
        name="Open-source licences",
        purpose="Licence texts, verbatim, so that people can ask what a licence allows and get the passage that says so.",
        kind="text",
        licence="CC0-1.0",
        guidelines="One licence per record, complete and unchanged, with its SPDX name and a link.",
        attribution_note="Texts verbatim from the SPDX License List (CC0-1.0), each with its name and link.",
        topics=["law", "software"],
        fee_open=2,
        **shared,
    )
    _datanet(
        TUMOURS,
        name="Breast tumour diagnosis",
        purpose="Measurements of cell nuclei from fine-needle aspirates, with the diagnosis that was confirmed.",
        kind="tabular",
        schema=files.tumour_schema(),
        licence="CC-BY-4.0",
        guidelines="One aspirate per row. The diagnosis is the confirmed one, not the suspected one.",
        attribution_note="Breast Cancer Wisconsin (Diagnostic), Wolberg, Mangasarian, Street, Street 1993, UCI Machine "
        "Learning Repository, CC BY 4.0.",
        topics=["medicine"],
        fee_open=5,
        **shared,
    )
    _datanet(
        FINANCIALS,
        name="Company financials",
        purpose="Yearly investment, market value and capital of eleven US firms, 1935 to 1954.",
        kind="tabular",
        schema=files.grunfeld_schema(),
        licence="CC0-1.0",
        guidelines="One firm and year per row, in 1947 dollars.",
        attribution_note="Grunfeld 1958, as restored by Kleiber and Zeileis 2008. Public domain.",
        topics=["finance"],
        fee_open=3,
        **shared,
    )
    _datanet(
        DIGITS,
        name="Handwritten digits",
        purpose="Small grey pictures of handwritten digits with the digit that was meant.",
        kind="image",
        schema={"labels": [str(digit) for digit in range(10)]},
        licence="CC-BY-4.0",
        guidelines="One digit per picture, upright, with its label in labels.csv.",
        attribution_note="Optical Recognition of Handwritten Digits, Alpaydin, Kaynak 1998, UCI Machine Learning "
        "Repository, CC BY 4.0.",
        topics=["handwriting"],
        fee_open=3,
        **shared,
    )
    return True


def first_records_arrive() -> bool:
    licences = files.licences("first")
    half = len(licences) // 2
    header, firms = files.grunfeld_rows()
    columns = files.tumour_columns()
    alice, bob = files.tumours(files.ALICE_TUMOURS), files.tumours(files.BOB_TUMOURS)
    return all(
        [
            _sent(LICENCES, "alice", "Permissive licences", "licences.jsonl", files.licences_jsonl(licences[:half])),
            _sent(LICENCES, "bob", "More licences", "licences.jsonl", files.licences_jsonl(licences[half:])),
            _sent(TUMOURS, "alice", "Aspirates, first clinic", "aspirates.csv", files.table_csv(columns, alice)),
            _sent(TUMOURS, "bob", "Aspirates, second clinic", "aspirates.csv", files.table_csv(columns, bob)),
            _sent(FINANCIALS, "alice", "Firms A to G", "firms.csv", files.table_csv(header, firms[:120])),
            _sent(FINANCIALS, "bob", "Other firms", "firms.csv", files.table_csv(header, firms[120:])),
            _sent(DIGITS, "alice", "Digits, first sheet", "digits.zip", files.digits(slice(0, 150))),
            _sent(DIGITS, "bob", "Digits, second sheet", "digits.zip", files.digits(slice(150, 300))),
        ]
    )


def curator_reviews() -> bool:
    """Carol works until nothing waits: she rejects what the checks show to be junk and approves the rest."""
    carol = person("carol")
    if Submission.objects.filter(status__in=["receiving", "checking"]).exists():
        return False
    for submission in Submission.objects.filter(status=Submission.Status.IN_REVIEW).order_by("sent_at"):
        waiting = list(submission.records.filter(status=Record.Status.WAITING).select_related("datanet", "body"))
        junk = [record for record in waiting if _is_junk(record)]
        good = [record for record in waiting if not _is_junk(record)]
        if good:
            reviews.decide(good, curator=carol, decision="approve")
        if junk:
            reviews.decide(
                junk, curator=carol, decision="reject", reason="spam", note="Not what this Datanet collects."
            )
    return True


def _is_junk(record: Record) -> bool:
    if REJECTED_FLAGS & set(record.flags):
        return True
    return record.datanet.kind == Datanet.Kind.TEXT and len(record.body.body["text"].split()) < LICENCE_WORDS_MIN


def owner_publishes(number: int) -> Callable[[], bool]:
    def publish() -> bool:
        """The owner freezes what is approved, once for each Datanet; undo must be over first."""
        for slug in (LICENCES, TUMOURS, FINANCIALS, DIGITS):
            datanet = _pool(slug)
            fresh = datanet.records.filter(status=Record.Status.APPROVED, added_in=None)
            if datanet.versions.count() >= number or (number > 1 and not fresh.exists()):
                continue
            young = timezone.now() - timedelta(seconds=settings.REVIEW_UNDO_S)
            if number > 1 and fresh.filter(decided_at__gt=young).exists():
                return False
            publishing.publish_version(datanet, by=datanet.owner, note=f"Demo, version {number}")
        return True

    return publish


def developer_trains() -> bool:
    """One model per Datanet; the financial and image ones, too, answer before the demo says ready."""
    return all(
        [
            _trained(
                MODELS["chat"],
                LICENCES,
                engine="retrieval",
                name="Licence chat",
                purpose="Ask what an open-source licence allows; answers quote the passage.",
                prices=(2_000_000, 10_000, 20_000),
            ),
            _trained(
                MODELS["tabular"],
                TUMOURS,
                engine="linear",
                name="Tumour check",
                purpose="Benign or malignant, from thirty measurements of cell nuclei.",
                run_settings={"l2": 10.0},
                prices=(24_000_000, 0, 0),
            ),
            _trained(
                MODELS["financial"],
                FINANCIALS,
                engine="linear",
                name="Investment estimate",
                purpose="Gross investment of a firm from its market value and capital.",
                prices=(10_000_000, 0, 0),
            ),
            _trained(
                MODELS["image"],
                DIGITS,
                engine="linear",
                name="Digit reader",
                purpose="Which digit a small grey picture shows.",
                run_settings={"image_side": 8},
                prices=(6_000_000, 0, 0),
            ),
        ]
    )


def buyer_gets_a_key() -> bool:
    state = read_state()
    dan = person("dan")
    if "api_key" not in state or not ApiKey.objects.filter(owner=dan, revoked_at=None).exists():
        _key, state["api_key"] = keys.create(owner=dan, name="Demo")
    state["models"] = {role: f"devi/{slug}" for role, slug in MODELS.items()}
    state["users"] = {
        role: {"email": email_of(handle), "password": state["passwords"][handle]}
        for role, (handle, _name) in CAST.items()
    }
    state["site"], state["gateway"] = settings.SITE_URL, settings.GATEWAY_URL
    state["log_vkey"], state["witness_vkeys"] = ledger.log_vkey(), ledger.witness_vkeys()
    state["examples"] = {
        "classify": {"model": f"devi/{MODELS['tabular']}", "input": files.unseen_tumours(1)[0]},
        "predict": {
            "model": f"devi/{MODELS['financial']}",
            "input": {"value": 3078.5, "capital": 2.8, "firm": "General Motors", "year": 1935},
        },
    }
    write_state(state)
    return True


# --- The rest, behind `ready`


def more_records_arrive() -> bool:
    columns = files.tumour_columns()
    licences = files.licences("rest")
    half = len(licences) // 2
    flipped = files.table_csv(columns, files.tumours(files.MAX_TUMOURS, flipped=True))
    return all(
        [
            _sent(TUMOURS, "mallory", "Aspirates of our clinic", "own.csv", files.tumour_copies_exact()),
            _sent(TUMOURS, "mallory", "Aspirates, second series", "own2.csv", files.tumour_copies_edited()),
            _sent(TUMOURS, "max", "Aspirates, night shift", "night.csv", flipped),
            _sent(LICENCES, "jules", "Many licences", "licences.jsonl", files.junk_jsonl()),
            _sent(DIGITS, "jules", "Digits of mine", "digits.zip", files.digits(slice(0, 0), blank=5)),
            _sent(DIGITS, "alice", "Digits, third sheet", "digits.zip", files.digits(slice(300, 900))),
            _sent(DIGITS, "bob", "Digits, fourth sheet", "digits.zip", files.digits(slice(900, 1400))),
            _sent(LICENCES, "alice", "Copyleft licences", "licences.jsonl", files.licences_jsonl(licences[:half])),
            _sent(LICENCES, "bob", "Further licences", "licences.jsonl", files.licences_jsonl(licences[half:])),
        ]
    )


def developer_trains_again() -> bool:
    neighbours = _trained(
        NEIGHBOURS,
        DIGITS,
        engine="neighbours",
        name="Digit neighbours",
        purpose="Which digit a picture shows, with the pictures that look most like it.",
        run_settings={"image_side": 8, "k": 5},
        prices=(6_000_000, 0, 0),
    )
    return all([neighbours, *(_retrained(slug) for slug in MODELS.values())])


def buyer_calls() -> bool:
    """Real calls through the gateway, with the buyer's key, a few each time this is rung."""
    wanted = [*_classify_calls(), *_chat_calls()]
    done = Call.objects.filter(buyer=person("dan"), status="succeeded").count()
    secret = read_state()["api_key"]
    for path, body in wanted[done : done + 8]:
        post_call(path, body, secret)
    return done >= len(wanted)


def everything_is_settled() -> bool:
    """The last epochs are posted: every call has its receipt, every record its reason."""
    charges = Call.objects.filter(cost_nano__gt=0).values_list("pk", flat=True)
    if any(explain.status_of(charge) != "posted" for charge in charges):
        return False
    dan = person("dan")
    shown = Call.objects.filter(buyer=dan, model__slug=MODELS["tabular"], cost_nano__gt=0).latest("finished_at")
    samples.show(shown, by=dan, shown=True)
    state = read_state()
    state["complete"] = True
    write_state(state)
    return True


FIRST: dict[str, Callable[[], bool]] = {
    "people": people_sign_up,
    "deposits": admins_record_deposits,
    "datanets": owner_creates_datanets,
    "records": first_records_arrive,
    "reviews": curator_reviews,
    "versions": owner_publishes(1),
    "models": developer_trains,
    "key": buyer_gets_a_key,
}
REST: dict[str, Callable[[], bool]] = {
    "more records": more_records_arrive,
    "more reviews": curator_reviews,
    "second versions": owner_publishes(2),
    "second models": developer_trains_again,
    "calls": buyer_calls,
    "settlement": everything_is_settled,
}


def ring(step: str) -> bool:
    """Go on with one step of the rest; returns whether it is finished, and marks it done then."""
    if DemoProgress.objects.filter(step=step, done_at__isnull=False).exists():
        return True
    finished = REST[step]()
    if finished:
        DemoProgress.objects.filter(step=step).update(done_at=timezone.now())
    return finished


# --- Helpers


def _datanet(slug: str, *, fee_open: int, **fields) -> Datanet:
    olivia = person("olivia")
    found = Datanet.objects.filter(owner=olivia, slug=slug).first()
    if found is None:
        found = datanets.create_datanet(owner=olivia, slug=slug, **fields)
        training.set_fee(found, by=olivia, training_fee_nano=fee_open * OPEN)
    if not Membership.objects.filter(datanet=found, user=person("carol"), role="curator").exists():
        datanets.add_curator(found, user=person("carol"), by=olivia)
    return found


def _pool(slug: str) -> Datanet:
    return Datanet.objects.select_related("owner").get(owner__username="olivia", slug=slug)


def _sent(slug: str, handle: str, title: str, name: str, data: bytes) -> bool:
    """Upload, describe and send, once; true when its checks are through."""
    contributor = person(handle)
    found = Submission.objects.filter(datanet=_pool(slug), contributor=contributor, title=title).first()
    if found is None:
        found = submissions.start(datanet=_pool(slug), contributor=contributor, title=title)
        uploads.receive_file(found, name=name, stream=io.BytesIO(data), size_bytes=len(data))
        submissions.describe(found, by=contributor, title=title, description="", source_url="")
        submissions.sign_and_send(found, by=contributor)
        return False
    return found.status not in (Submission.Status.RECEIVING, Submission.Status.CHECKING)


def _trained(
    slug: str, pool: str, *, engine: str, name: str, purpose: str, prices: tuple[int, int, int], run_settings=None
) -> bool:
    devi = person("devi")
    model = ListedModel.objects.filter(owner=devi, slug=slug).first()
    if model is None:
        model = listings.create_model(owner=devi, slug=slug, name=name, purpose=purpose, engine=engine)
        call, token_in, token_out = prices
        listings.set_prices(model, by=devi, price_call_nano=call, price_in_nano=token_in, price_out_nano=token_out)
    if not model.training_runs.exclude(status=TrainingRun.Status.FAILED).exists():
        newest = Version.objects.filter(datanet=_pool(pool)).latest("number")
        training.request(model=model, by=devi, versions=[newest], settings=run_settings or {})
    if not model.versions.exists():
        return False
    listings.list_model(model, by=devi)
    return True


def _retrained(slug: str) -> bool:
    """Train once more on the newest version, if there is a newer one than the model knows."""
    model = ListedModel.objects.get(owner__username="devi", slug=slug)
    last = model.training_runs.latest("created_at")
    newest = Version.objects.filter(datanet__versions__training_runs=last).latest("number")
    if last.versions.filter(pk=newest.pk).exists():
        return last.status in (TrainingRun.Status.DONE, TrainingRun.Status.FAILED)
    training.request(model=model, by=model.owner, versions=[newest], settings=last.settings)
    return False


def _classify_calls() -> list[tuple[str, dict]]:
    calls = [("/v1/classify", {"model": f"devi/{MODELS['tabular']}", "input": row}) for row in files.unseen_tumours(40)]
    for number, picture in enumerate(files.unseen_digits(20)):
        model = MODELS["image"] if number % 2 else NEIGHBOURS
        calls.append(
            ("/v1/classify", {"model": f"devi/{model}", "input": {"image": base64.b64encode(picture).decode()}})
        )
    _header, firms = files.grunfeld_rows()
    for _invest, value, capital, firm, year in firms[::22]:
        row = {"value": float(value) * 1.1, "capital": float(capital), "firm": firm, "year": int(year)}
        calls.append(("/v1/predict", {"model": f"devi/{MODELS['financial']}", "input": row}))
    return calls


def _chat_calls() -> list[tuple[str, dict]]:
    return [
        (
            "/v1/chat/completions",
            {
                "model": f"devi/{MODELS['chat']}",
                "messages": [{"role": "user", "content": question}],
                "max_tokens": 48,
                "temperature": 0,
            },
        )
        for question in QUESTIONS
    ]


def post_call(path: str, body: dict, secret: str) -> dict:
    """One call as any program would make it."""
    request = urllib.request.Request(
        settings.GATEWAY_URL + path,
        data=json.dumps(body).encode(),
        headers={"authorization": f"Bearer {secret}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise OSError(f"{path} answered {error.code}: {error.read()[:200]!r}") from error


def state_file() -> Path:
    return settings.STATE_DIR / "demo.json"


def read_state() -> dict:
    path = state_file()
    return json.loads(path.read_text()) if path.exists() else {}


def write_state(state: dict) -> None:
    """Replace demo.json at once, readable by its owner only: it holds passwords and a key of play accounts."""
    path = state_file()
    unfinished = path.with_suffix(".new")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(state, out, indent=1)
    os.replace(unfinished, path)


def users_exist() -> bool:
    return User.objects.filter(username="alice").exists()
