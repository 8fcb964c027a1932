"""What a receipt's page says: who may see what of an entry, the steps of its proof as sentences, who was paid.

The proof itself is ledger.receipts'; the sentence keys are those of docs/receipt.md, for the server and the browser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from attribution import explain, payloads
from attribution.models import Line
from attribution.reasons import unattributed_sentence
from datanets import records as datanet_records
from datanets.models import Record
from ledger import chart, commitments
from ledger import receipts as format
from ledger import services as ledger

from . import lognames, querysets, roles
from .models import Access, Call, TrainingRun, Withdrawal
from .templatetags import figures

RECORDS_SHOWN = 20
EXCERPT_CHARS = 160
CHARGES = (commitments.CALL_CHARGED, commitments.ACCESS_CHARGED, commitments.TRAINING_CHARGED)

STEPS = {
    "form": gettext_lazy("The file"),
    "commitments": gettext_lazy("The opened values"),
    "split": gettext_lazy("The split"),
    "inclusion": gettext_lazy("In the log"),
    "log_signature": gettext_lazy("Signed by the log"),
    "witnesses": gettext_lazy("Seen by witnesses"),
}
SENTENCES = {
    "form.ok": gettext_lazy("The file is written as the format says, to the letter."),
    "form.failed": gettext_lazy("The file is not a receipt: %(reason)s."),
    "form.unavailable": gettext_lazy("This browser cannot check here. Use verify_receipt.py."),
    "commitments.ok": gettext_lazy("Opened, and what the entry committed to: %(count)s."),
    "commitments.none": gettext_lazy("Nothing is opened: this is the public receipt."),
    "commitments.failed": gettext_lazy("The value of %(field)s is not what the entry committed to."),
    "split.ok": gettext_lazy("All parts add up to the price, %(price)s OPEN."),
    "split.partial": gettext_lazy("The opened parts stay within the price, %(price)s OPEN."),
    "split.none": gettext_lazy("There is no total to compare with."),
    "split.failed": gettext_lazy("The parts do not add up to the price."),
    "inclusion.ok": gettext_lazy("The entry is number %(index)s of the %(size)s that the checkpoint covers."),
    "inclusion.failed": gettext_lazy("The proof does not lead from this entry to the checkpoint."),
    "log_signature.ok": gettext_lazy("The checkpoint carries the signature of %(origin)s."),
    "log_signature.former": gettext_lazy(
        "The checkpoint carries the signature of %(origin)s, by a key it has changed since."
    ),
    "log_signature.failed": gettext_lazy("The checkpoint is not signed by this log."),
    "log_signature.unavailable": gettext_lazy("This browser cannot check signatures here. Use verify_receipt.py."),
    "witnesses.ok": gettext_lazy("Witnesses that saw the log only grow: %(count)s, of %(quorum)s needed."),
    "witnesses.failed": gettext_lazy("Witnesses that cosigned: %(count)s, of %(quorum)s needed."),
    "witnesses.none": gettext_lazy("No witness is asked for here: this does not protect against the log’s operator."),
    "witnesses.unavailable": gettext_lazy("This browser cannot check cosignatures here. Use verify_receipt.py."),
}


@dataclass(frozen=True)
class Viewing:
    """What a person may see of an entry.

    Args:
        entry: The ledger's row, private values included: show them to a holder only.
        is_holder: All openings: the buyer of a charge, the owner of the wallet of a plain posting.
        payee_codes: Account codes whose own split lines this person may open.
        call: Of the charge of a call, for somebody signed in; with its version, model, refund, payback and dispute.
    """

    entry: ledger.EntryRow
    is_holder: bool
    payee_codes: frozenset[str]
    call: Call | None = None


def viewing(entry_id: UUID, user: querysets.Viewer) -> Viewing | None:
    """Look at an entry as somebody; None when there is none."""
    entry = ledger.entry_of(entry_id)
    if entry is None:
        return None
    if not user.is_authenticated:
        return Viewing(entry, False, frozenset())
    mine = frozenset({chart.wallet(user.pk), chart.pending(user.pk), chart.promotion(user.pk)})
    if entry.type == commitments.CALL_CHARGED:
        read_with_it = ("version__model__owner", "model", "buyer", "refund", "payback", "dispute")
        call = Call.objects.filter(pk=entry.id).select_related(*read_with_it).first()
        is_holder = call is not None and call.buyer_id == user.pk
        if call is not None and call.buyer.is_wallet:
            is_holder = Call.objects.filter(roles.bought_by(user), pk=call.pk).exists()
        return Viewing(entry, is_holder, mine, call)
    return Viewing(entry, _is_holder(entry, user), mine)


def body(seen: Viewing) -> tuple[str, dict | None]:
    """(waiting | sequenced | proved, the receipt as this person may have it)."""
    found = ledger.receipt_of(seen.entry, with_openings=True)
    if found.body is None:
        return found.status, None
    receipt = dict(found.body)
    opened = receipt.pop("openings", None)
    if opened and not seen.is_holder:
        opened = {
            name: one
            for name, one in opened.items()
            if name.startswith("split.") and one["value"]["payee"] in seen.payee_codes
        }
    return found.status, receipt | ({"openings": opened} if opened else {})


def check(receipt: dict | bytes) -> list[dict]:
    """Verify with this site's pinned keys: the steps as components/receipt_steps.html shows them."""
    log_vkey, *former = ledger.log_vkeys()
    steps = format.verify_receipt(receipt, log_vkey, ledger.witness_vkeys(), settings.WITNESS_QUORUM, former)
    return [
        {
            "key": step.name,
            "label": STEPS[step.name],
            "result": "ok" if step.ok else "bad",
            "text": SENTENCES[step.key] % _shown(step.values),
        }
        for step in steps
    ]


def is_verified(steps: list[dict]) -> bool:
    return all(step["result"] == "ok" for step in steps)


def words() -> dict[str, str]:
    """The sentences for the browser, by key; `{name}` stands for a value."""
    names = ("reason", "count", "field", "price", "index", "size", "origin", "quorum")
    blanks = {name: f"{{{name}}}" for name in names}
    return {key: str(text) % blanks for key, text in SENTENCES.items()} | {
        f"step.{k}": str(v) for k, v in STEPS.items()
    }


def command(entry_id: UUID) -> str:
    """The line that checks the downloaded file without us."""
    parts = ["python3 verify_receipt.py receipt", f"receipt-{entry_id}.json", "--log", ledger.log_vkey()]
    witnesses = ledger.witness_vkeys()
    if witnesses and settings.WITNESS_QUORUM:
        parts += ["--witness", *witnesses, "--quorum", str(settings.WITNESS_QUORUM)]
    return " ".join(parts)


def _shown(values: dict) -> dict:
    shown = dict(values)
    if "price_nano" in shown:
        shown["price"] = figures.open_text(shown["price_nano"])
    return shown


def _is_holder(entry: ledger.EntryRow, user: User) -> bool:
    match entry.type:
        case commitments.CALL_ATTRIBUTED:
            return Call.objects.filter(roles.bought_by(user), pk=entry.public["charge"]).exists()
        case commitments.ACCESS_CHARGED:
            return Access.objects.filter(posting_id=entry.id, buyer__in=roles.seen_accounts(user)).exists()
        case commitments.TRAINING_CHARGED:
            return TrainingRun.objects.filter(posting_id=entry.id, requested_by=user).exists()
        case commitments.WITHDRAWAL_SENT:
            return Withdrawal.objects.filter(pk=entry.id, user__in=roles.seen_accounts(user)).exists()
        case commitments.REFUND_MADE:
            return Call.objects.filter(roles.bought_by(user), pk=entry.public["reverses"]).exists()
        case commitments.POSTING_MADE:
            # One commitment opens all legs: only for somebody who is the only person in them.
            people = {
                chart.user_of(code)
                for move in (entry.private or {}).get("posting", {}).get("moves", ())
                for code in (move["source"], move["target"])
            }
            return people - {None} == {user.pk}
    return False


# --- Sentences


def sentence(seen: Viewing, user: querysets.Viewer) -> str:
    """What happened, in one sentence, with no more than the viewer may know."""
    entry = seen.entry
    public = entry.public
    said = {"hour": f"{entry.at:%Y-%m-%d %H:00} UTC", **{k: v for k, v in public.items() if isinstance(v, str | int)}}
    # The entry of a model's version has that version's id.
    about = {
        "model": (public.get("version_id", str(entry.id)), public.get("model_id")),
        "datanet": (public.get("datanet_id"),),
    }
    if seen.call is not None:
        named = {str(seen.call.version_id): seen.call.version.path}
    else:
        named = lognames.of([id for ids in about.values() for id in ids if id], user)
    said |= {word: next((named[id] for id in ids if id in named), ids[-1]) for word, ids in about.items() if ids[-1]}
    price = (entry.private or {}).get("price") if seen.is_holder else None
    if price is not None and entry.type in CHARGES:
        said["price"] = figures.open_text(int(price))
        if (entry.private or {}).get("paid_by") == "developer":
            return (
                _(
                    "One call to %(model)s was free for you, in the hour from %(hour)s: its developer paid %(price)s OPEN."
                )
                % said
            )
        return {
            commitments.CALL_CHARGED: _(
                "You paid %(price)s OPEN for one call to %(model)s, in the hour from %(hour)s."
            ),
            commitments.ACCESS_CHARGED: _(
                "You paid %(price)s OPEN for a pass to %(model)s, in the hour from %(hour)s."
            ),
            commitments.TRAINING_CHARGED: _("You paid %(price)s OPEN to train %(model)s, in the hour from %(hour)s."),
        }[entry.type] % said
    for name in ("pool", "paid", "unattributed"):
        if name in said:
            said[name] = figures.open_text(int(said[name]))
    text = {
        commitments.CALL_CHARGED: _("One call to %(model)s was charged, in the hour from %(hour)s."),
        commitments.CALL_ATTRIBUTED: _("The data part of a call was divided among its contributors."),
        commitments.ACCESS_CHARGED: _("A pass to %(model)s was sold, in the hour from %(hour)s."),
        commitments.TRAINING_CHARGED: _("A training fee for %(model)s was charged, in the hour from %(hour)s."),
        commitments.REFUND_MADE: _("A charge was given back, whole."),
        commitments.EPOCH_SETTLED: _(
            "Epoch %(epoch)s of a model was settled: %(pool)s OPEN came in, %(paid)s went to people, "
            "%(unattributed)s stay unattributed."
        ),
        commitments.VERSION_PUBLISHED: _("Version %(version)s of %(datanet)s was frozen, with %(records)s records."),
        commitments.MODEL_PUBLISHED: _("%(model)s was published."),
        commitments.RULE_ADOPTED: _("A split rule came into use."),
        commitments.CONSENT_WITHDRAWN: _("A contributor took data back from %(datanet)s."),
        commitments.WITHDRAWAL_SENT: _("A withdrawal was sent."),
        commitments.KEY_ROTATED: _("The log’s key changed."),
        commitments.POSTING_MADE: _("A posting of kind %(kind)s was booked, in the hour from %(hour)s."),
    }.get(entry.type, entry.type)
    return " ".join([text % said, *_paid_equally(public, user)])


def _paid_equally(public: Mapping[str, Any], user: querysets.Viewer) -> list[str]:
    """Of an epoch: which versions pay equally in it, and by which measurement of their score card."""
    found = public.get("equally", [])
    named = lognames.of([one["version"] for one in found], user)
    return [
        _(
            "In it %(version)s pays every record that leads the same: "
            "measurement %(card)s of its score card lay below a floor."
        )
        % {"version": named.get(one["version"], one["version"]), "card": one["card"]}
        for one in found
    ]


# --- Who was paid


@dataclass(frozen=True)
class Paid:
    """One row of the table that adds up to the price. `line_id` leads its own payee to the sum."""

    payee: str
    role: str
    amount_nano: int
    note: str = ""


@dataclass(frozen=True)
class Settlement:
    """A charge as its buyer may see it.

    Args:
        price_nano: What was paid; `paid` adds up to it.
        lines: What it pays per payee and role, once the pools are divided: people stand in `paid` in place of them.
        call: The integers of the division; None before it is traced.
        records: (share, Record or None, excerpt) of the largest; the record is None where the buyer may not see it.
    """

    price_nano: int
    paid: list[Paid]
    lines: list[Line]
    call: explain.CallExplanation | None = None
    records: list[tuple[explain.RecordShare, Record | None, str]] = field(default_factory=list)
    records_left: int = 0
    records_left_nano: int = 0

    @property
    def is_settled(self) -> bool:
        return bool(self.lines)


def settlement(seen: Viewing, user: querysets.Viewer) -> Settlement:
    """Who got which part of a charge. For its holder."""
    split = seen.entry.split or []
    lines = explain.lines_of_charge(seen.entry.id)
    largest_first = sorted(lines, key=lambda line: -line.amount_nano)
    names = _names(split)
    paid = []
    for line in split:
        amount_nano = int(line["amount"])
        pool = {"data-pool": Line.Role.DATA, "curation-pool": Line.Role.CURATION}.get(line["role"])
        if not amount_nano:
            continue
        if pool is None or not lines:
            paid.append(Paid(names.get(line["payee"], ""), role_label(line["role"]), amount_nano))
            continue
        paid += [
            Paid(
                one.payee.username if one.payee else _("unattributed"),
                one.get_role_display(),
                one.amount_nano,
                note=unattributed_sentence(one.reason),
            )
            for one in largest_first
            if one.role == pool
        ]
    call = explain.why_call(seen.entry.id, lines=lines) if seen.entry.type == commitments.CALL_CHARGED else None
    shares = [one for one in call.records if one.weight or one.amount_nano] if call else []
    shown, rest = shares[:RECORDS_SHOWN], shares[RECORDS_SHOWN:]
    visible = _visible([one.record_id for one in shown], user)
    return Settlement(
        price_nano=int((seen.entry.private or {}).get("price", 0)),
        paid=paid,
        lines=lines,
        call=call,
        records=[(one, visible.get(one.record_id), _excerpt(visible.get(one.record_id))) for one in shown],
        records_left=len(rest),
        records_left_nano=sum(one.amount_nano for one in rest),
    )


def attributed_id(charge_id: UUID) -> UUID:
    """The id of the second receipt of a charge: who got its data part."""
    return payloads.attributed_entry_id(charge_id)


def role_label(role: str) -> str:
    """The words for a split line's role."""
    return {
        "platform": _("Platform"),
        "developer": _("Model developer"),
        "owner": _("Datanet owner"),
        "data-pool": _("Waiting for data contributors"),
        "curation-pool": _("Waiting for curators"),
        "data": _("Data contributor"),
        "curation": _("Curator"),
        "contributor": _("Data contributor"),
        "curator": _("Curator"),
        "unattributed": _("Unattributed"),
    }.get(role, role)


def _names(split: list[dict]) -> dict[str, str]:
    owner_of = {line["payee"]: chart.user_of(line["payee"]) for line in split}
    people = User.objects.in_bulk([user_id for user_id in owner_of.values() if user_id is not None])
    names = {code: people[user_id].username for code, user_id in owner_of.items() if user_id in people}
    return names | {chart.FEES: settings.SITE_NAME}


def _visible(record_ids: list[int], user: User) -> dict[int, Record]:
    """Those of the records that stand and whose content this person may see."""
    standing = Record.objects.filter(pk__in=record_ids, status=Record.Status.APPROVED).defer("signature", "bands")
    found = standing.select_related("datanet", "body").in_bulk()
    seen = datanet_records.seen_by(user, found.values())
    return {pk: record for pk, record in found.items() if pk in seen}


def _excerpt(record: Record | None) -> str:
    if record is None:
        return ""
    if record.title:
        return record.title
    body = getattr(record, "body", None)
    content = body.body if body is not None else {}
    values = [f"{name} {value}" for name, value in content.items() if isinstance(value, str | int | float)]
    return ", ".join(values)[:EXCERPT_CHARS]
