"""Loads the demo through the same services that pages and the API call. It tells the product nothing about anybody.

Every step is a function that goes as far as it can and returns whether it is finished, so that it can be rung again
after any interruption: by `manage.py demo --first` in a loop, and by Celery for the rest. What one step makes it makes
in one transaction, and once it is finished it is over for good (progress.py).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from attribution import cards, explain
from datanets import reviews, submissions, uploads
from datanets import services as datanets
from datanets.models import Datanet, Record, Submission, Version
from demo import calls, files, progress, state
from demo.calls import buyer_calls
from demo.names import DIGITS, EMBEDDINGS, FINANCIALS, LICENCES, MODELS, NEIGHBOURS, TUMOURS
from demo.people import accounts, create_all, new_passwords, person
from ledger import chart
from ledger import services as ledger
from marketplace import listings, operators, publishing, samples, training, wallets
from marketplace.models import Call, Deposit, ListedModel, TrainingRun

OPEN = 10**9
# A curator's eye in code: she rejects blank pictures and what is too short to be a licence.
REJECTED_FLAGS = {"image_quality"}
LICENCE_WORDS_MIN = 25


# --- The parts of the demo


def people_sign_up() -> bool:
    told = state.read()
    passwords = new_passwords() | told.get("passwords", {})
    # Before the people: whoever exists without a password known here could never be told about.
    state.write(told | {"passwords": passwords})
    create_all(passwords)
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
        answers={
            "collection": "Copied from the SPDX License List, text by text.",
            "people": "It is not about people.",
            "gaps": "A selection: that a licence is missing says nothing about it.",
            "misuses": "It quotes licences. It is no legal advice.",
        },
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
        answers={
            "collection": "Measured at the University of Wisconsin from digitised images of fine-needle aspirates.",
            "people": "Each row is one patient, without anything that names them.",
            "gaps": "Patients of one hospital: others are not represented.",
            "misuses": "It must not decide on a patient.",
        },
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
    sent = partial(_sent, "records")
    return all(
        [
            sent(LICENCES, "alice", "Permissive licences", "licences.jsonl", files.licences_jsonl(licences[:half])),
            sent(LICENCES, "bob", "More licences", "licences.jsonl", files.licences_jsonl(licences[half:])),
            sent(TUMOURS, "alice", "Aspirates, first clinic", "aspirates.csv", files.table_csv(columns, alice)),
            sent(TUMOURS, "bob", "Aspirates, second clinic", "aspirates.csv", files.table_csv(columns, bob)),
            sent(FINANCIALS, "alice", "Firms A to G", "firms.csv", files.table_csv(header, firms[:120])),
            sent(FINANCIALS, "bob", "Other firms", "firms.csv", files.table_csv(header, firms[120:])),
            sent(DIGITS, "alice", "Digits, first sheet", "digits.zip", files.digits(slice(0, 150))),
            sent(DIGITS, "bob", "Digits, second sheet", "digits.zip", files.digits(slice(150, 300))),
        ]
    )


def curator_reviews() -> bool:
    """Carol decides on what the demo sent, and on nothing else: she rejects what the checks show to be junk.

    What people send to a demo Datanet, and whatever state that is in, is no business of the demo's.
    """
    sent = [*progress.made("records").values(), *progress.made("more records").values()]
    own = Submission.objects.filter(pk__in=sent)
    if own.filter(status__in=["receiving", "checking"]).exists():
        return False
    carol = person("carol")
    for submission in own.filter(status=Submission.Status.IN_REVIEW).order_by("sent_at"):
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


def admin_lists_embeddings() -> bool:
    """The bundled embedding model, which no Datanet shaped."""
    operators.list_embedding_model(
        owner=person("devi"),
        by=person("erin"),
        name="Text embeddings",
        slug=EMBEDDINGS,
        purpose="A vector of 384 numbers for each text, for search and comparison.",
        artifact_sha256=operators.weights_sha256(),
        price_call_nano=100_000,
        price_in_nano=1_000,
    )
    return True


# --- The rest, behind `ready`


def more_records_arrive() -> bool:
    columns = files.tumour_columns()
    licences = files.licences("rest")
    half = len(licences) // 2
    flipped = files.table_csv(columns, files.tumours(files.MAX_TUMOURS, flipped=True))
    sent = partial(_sent, "more records")
    return all(
        [
            sent(TUMOURS, "mallory", "Aspirates of our clinic", "own.csv", files.tumour_copies_exact()),
            sent(TUMOURS, "mallory", "Aspirates, second series", "own2.csv", files.tumour_copies_edited()),
            sent(TUMOURS, "max", "Aspirates, night shift", "night.csv", flipped),
            sent(LICENCES, "jules", "Many licences", "licences.jsonl", files.junk_jsonl()),
            sent(DIGITS, "jules", "Digits of mine", "digits.zip", files.digits(slice(0, 0), blank=5)),
            sent(DIGITS, "alice", "Digits, third sheet", "digits.zip", files.digits(slice(300, 900))),
            sent(DIGITS, "bob", "Digits, fourth sheet", "digits.zip", files.digits(slice(900, 1400))),
            sent(LICENCES, "alice", "Copyleft licences", "licences.jsonl", files.licences_jsonl(licences[:half])),
            sent(LICENCES, "bob", "Further licences", "licences.jsonl", files.licences_jsonl(licences[half:])),
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


def everything_is_settled() -> bool:
    """The last epochs are posted: each of the demo's calls has its receipt, each record its reason."""
    charged = Call.objects.filter(pk__in=calls.receipts(), cost_nano__gt=0)
    if any(explain.status_of(charge) not in ("posted", "no_data") for charge in charged.values_list("pk", flat=True)):
        return False
    shown = charged.filter(model__slug=MODELS["tabular"]).order_by("finished_at").last()
    if shown is not None:
        samples.show(shown, by=shown.buyer, shown=True)
    state.write(state.read() | {"complete": True})
    return True


def cards_begin() -> bool:
    """The score cards of the demo's models, which waited so that they slow nothing before: workers measure them now."""
    models = ListedModel.objects.filter(owner=person("devi"))
    cards.begin_now(list(models.values_list("pk", flat=True)))
    return True


FIRST: dict[str, Callable[[], bool]] = {
    "people": people_sign_up,
    "deposits": admins_record_deposits,
    "datanets": owner_creates_datanets,
    "records": first_records_arrive,
    "reviews": curator_reviews,
    "versions": owner_publishes(1),
    "models": developer_trains,
    "embeddings": admin_lists_embeddings,
}
REST: dict[str, Callable[[], bool]] = {
    "more records": more_records_arrive,
    "more reviews": curator_reviews,
    "second versions": owner_publishes(2),
    "second models": developer_trains_again,
    calls.STEP: buyer_calls,
    "settlement": everything_is_settled,
    "score cards": cards_begin,
}
STEPS = FIRST | REST


def ring(step: str) -> bool:
    """Go on with one step unless it is done; returns whether it is, and marks it done then."""
    if progress.is_done(step):
        return True
    finished = STEPS[step]()
    if finished:
        progress.mark_done(step)
    return finished


def tell(*, first_start: bool) -> None:
    """Bring demo.json up to date: at every start, because addresses change, keys are revoked, and files get lost."""
    told = state.read()
    passwords, users = accounts(told.get("passwords", {}))
    told |= {
        "site": settings.SITE_URL,
        "gateway": settings.GATEWAY_URL,
        "users": users,
        "passwords": passwords,
        "models": {role: f"devi/{slug}" for role, slug in (MODELS | {"embedding": EMBEDDINGS}).items()},
        "log_vkey": ledger.log_vkey(),
        "witness_vkeys": ledger.witness_vkeys(),
        "examples": {
            "classify": {"model": f"devi/{MODELS['tabular']}", "input": files.unseen_tumours(1)[0]},
            "predict": {
                "model": f"devi/{MODELS['financial']}",
                "input": {"value": 3078.5, "capital": 2.8, "firm": "General Motors", "year": 1935},
            },
        },
        "first_start": first_start,
        "complete": progress.next_of(STEPS) is None,
    }
    state.write(told)
    calls.key_secret()


# --- Helpers


@transaction.atomic
def _datanet(slug: str, *, fee_open: int, **fields) -> Datanet:
    olivia = person("olivia")
    found = Datanet.objects.filter(owner=olivia, slug=slug).first()
    if found is None:
        found = datanets.create_datanet(owner=olivia, slug=slug, **fields)
        training.set_fee(found, by=olivia, training_fee_nano=fee_open * OPEN)
        datanets.add_curator(found, user=person("carol"), by=olivia)
    return found


def _pool(slug: str) -> Datanet:
    return Datanet.objects.select_related("owner").get(owner__username="olivia", slug=slug)


def _sent(step: str, slug: str, handle: str, title: str, name: str, data: bytes) -> bool:
    """Upload, describe and send, once; true when its checks are through."""
    sent = progress.made(step).get(title)
    if sent is None:
        _send(step, slug, handle, title, name, data)
        return False
    unchecked = (Submission.Status.RECEIVING, Submission.Status.CHECKING)
    return not Submission.objects.filter(pk=sent, status__in=unchecked).exists()


@transaction.atomic
def _send(step: str, slug: str, handle: str, title: str, name: str, data: bytes) -> None:
    contributor = person(handle)
    submission = submissions.start(datanet=_pool(slug), contributor=contributor, title=title)
    uploads.receive_file(submission, name=name, stream=io.BytesIO(data), size_bytes=len(data))
    submissions.sign_and_send(submission, by=contributor)
    progress.remember(step, title, submission.pk)


def _trained(
    slug: str, pool: str, *, engine: str, name: str, purpose: str, prices: tuple[int, int, int], run_settings=None
) -> bool:
    devi = person("devi")
    model = ListedModel.objects.filter(owner=devi, slug=slug).first()
    if model is None:
        with transaction.atomic():
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
