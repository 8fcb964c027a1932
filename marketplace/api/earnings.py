"""What a person earned, and why: the rows of the earnings page."""

from __future__ import annotations

import re

from django.http import HttpResponse
from django.utils import timezone
from rest_framework import exceptions, serializers
from rest_framework.response import Response

from accounts.models import User
from attribution import explain_lines, methods
from attribution.models import Epoch, Line
from attribution.reasons import unattributed_sentence
from datanets.models import Datanet, Record

from .. import comparing, earnings, periods, statements, wallets
from ..models import ListedModel
from ..querysets import BIGINT_MAX
from .base import ApiView, PageQuery, bad_cursor, endpoint, find, page, page_of, page_response, query_of
from .fields import Nano, Open, Shown, Strict, money

# What marketplace.querysets writes for moments: ISO with its zone, and the row's id.
_CURSOR = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?\+00:00~[0-9a-f]{8}-[0-9a-f-]{27}$")


class Summary(Shown):
    available_nano, available_open = money("available_nano")
    pending_nano, pending_open = money("pending_nano")
    disputed_nano, disputed_open = money("disputed_nano")
    last_30_days_nano, last_30_days_open = money("last_30_days_nano")
    lifetime_nano, lifetime_open = money("lifetime_nano")
    charges = serializers.IntegerField()


class Filter(Strict):
    model = serializers.CharField(required=False, max_length=101, help_text="owner/slug")
    datanet = serializers.CharField(required=False, max_length=101, help_text="owner/slug: payments it has a part in.")
    record = serializers.IntegerField(
        required=False, min_value=1, max_value=BIGINT_MAX, help_text="A record's id: payments it has a part in."
    )
    state = serializers.ChoiceField(choices=tuple(statements.STATES), required=False)
    since = serializers.DateField(required=False, help_text="First day, UTC.")
    until = serializers.DateField(required=False, help_text="Last day, UTC, included.")


class PaymentQuery(Filter):
    after = serializers.CharField(required=False, max_length=100)


class PaymentShown(Shown):
    """One epoch of one model, in one role. The same values as in the statement."""

    epoch = serializers.UUIDField(source="epoch_id", help_text="Its receipt's id, too.")
    number = serializers.IntegerField()
    at = serializers.DateTimeField()
    model = serializers.CharField()
    datanets = serializers.ListField(child=serializers.CharField())
    role = serializers.CharField()
    charges = serializers.IntegerField()
    records = serializers.IntegerField()
    price_nano, price_open = money("price_nano")
    part_nano, part_open = money("part_nano")
    amount_nano, amount_open = money("amount_nano")
    refunded_nano, refunded_open = money("refunded_nano")
    state = serializers.CharField()
    available_at = serializers.DateTimeField(source="due_at", allow_null=True)
    held_because = serializers.CharField(source="reason")


class LineRow(Shown):
    id = serializers.IntegerField()
    source = serializers.CharField()  # type: ignore[assignment]
    charge = serializers.UUIDField(source="source_id")
    role = serializers.CharField()
    records = serializers.IntegerField(source="record_count")
    amount_nano, amount_open = money("amount_nano")
    refunded = serializers.BooleanField(help_text="Whether it went back: the charge was refunded.")


class PartShown(Shown):
    record_id = serializers.IntegerField(allow_null=True)
    score = serializers.CharField(allow_null=True)
    phi = serializers.IntegerField(allow_null=True)
    weight = serializers.CharField()
    amount_nano, amount_open = money("amount_nano")
    got_remainder = serializers.BooleanField()


class DeskShown(Shown):
    """weight = approved_nano * accuracy_millionths; the counts are those from which the accuracy was computed."""

    datanet = serializers.CharField(source="datanet.path")
    approved_nano, approved_open = money("approved_nano")
    accuracy_millionths = serializers.IntegerField()
    weight = serializers.CharField()
    counts = serializers.SerializerMethodField(
        help_text="gold_right, gold_wrong, stood, overturned; null: nothing measured."
    )

    def get_counts(self, desk) -> dict[str, int] | None:
        return desk.measured.counts._asdict() if desk.measured else None


class LineSumShown(Shown):
    """amount = floor(divided * weight / weights_total), and 1 nano more for the largest remainders."""

    id = serializers.IntegerField(source="line.pk")
    charge = serializers.UUIDField(source="line.source_id")
    role = serializers.CharField(source="line.role")
    method = serializers.SerializerMethodField(help_text="code, name, statement, formula, source, is_not.")
    amount_nano = Nano(source="line.amount_nano")
    amount_open = Open(source="line.amount_nano")
    part_nano, part_open = money("part_nano")
    divided_nano, divided_open = money("divided_nano")
    left_nano, left_open = money("left_nano")
    left_reason = serializers.CharField()
    left_sentence = serializers.SerializerMethodField()
    weights_total = serializers.CharField()
    mine = PartShown(many=True)
    others_weight = serializers.CharField()
    others_nano, others_open = money("others_nano")
    desks = DeskShown(
        many=True, help_text="For a curator: where they approved what was paid, and their accuracy there."
    )
    lost_nano, lost_open = money("lost_nano")
    full_nano, full_open = money("full_nano")

    def get_method(self, found) -> dict[str, str]:
        return methods.shown(found.method)._asdict()

    def get_left_sentence(self, found) -> str:
        return unattributed_sentence(found.left_reason)


class StatementRow(Shown):
    day = serializers.DateField()
    model = serializers.CharField()
    datanets = serializers.CharField()
    role = serializers.CharField()
    charges = serializers.IntegerField()
    records = serializers.IntegerField()
    amount = serializers.CharField(help_text="OPEN, nine places.")
    refunded = serializers.CharField(help_text="Of it: what went back with refunds.")
    unit = serializers.CharField()
    state = serializers.CharField()
    available_on = serializers.CharField()
    why_url = serializers.CharField()
    receipt_id = serializers.CharField()


class Statement(Shown):
    columns = serializers.ListField(child=serializers.CharField())
    rows = StatementRow(many=True)


class ChangesQuery(Strict):
    earlier = serializers.CharField(
        max_length=periods.CHARS_MAX, help_text="2026-11, 2026-11-03, 2026-11-03/2026-11-09; of a model: 12/14."
    )
    later = serializers.CharField(max_length=periods.CHARS_MAX, help_text="The same.")
    model = serializers.CharField(required=False, max_length=101, help_text="owner/slug")
    datanet = serializers.CharField(required=False, max_length=101, help_text="owner/slug")
    record = serializers.IntegerField(required=False, min_value=1, max_value=BIGINT_MAX)


class ChangeRow(Shown):
    """earlier, later: of calls, price, rule, supported, influence the whole numbers of that stage; else nano."""

    model = serializers.CharField()
    role = serializers.CharField()
    part = serializers.CharField()
    earlier = serializers.CharField()
    later = serializers.CharField()
    change_nano, change_open = money("amount_nano")


class Changes(Shown):
    """The changes of all rows add up to difference."""

    earlier_nano, earlier_open = money("earlier_nano")
    later_nano, later_open = money("later_nano")
    difference_nano, difference_open = money("difference_nano")
    rows = ChangeRow(many=True)


class ChangesView(ApiView):
    """What changed between two periods."""

    @endpoint(
        "earnings_changes",
        "Compare two periods of your earnings: signed parts that add up to the difference.",
        query=ChangesQuery,
        answers=Changes,
        reads=True,
        refusals=(422,),
    )
    def get(self, request):
        told = query_of(request, ChangesQuery)
        texts = [told.pop(name) for name in ("earlier", "later")]
        chosen = _filters(request.user, told)
        scope = comparing.Scope(chosen.model_id, chosen.datanet_id, chosen.record_id)
        found = comparing.compare(
            request.user, *(periods.period(text, model_id=scope.model_id) for text in texts), scope
        )
        paths = statements.names({row.model_id for row in found.rows})
        rows = [row._asdict() | {"model": paths.get(row.model_id, str(row.model_id))} for row in found.rows]
        return Response(
            Changes(
                {
                    "earlier_nano": found.earlier_nano,
                    "later_nano": found.later_nano,
                    "difference_nano": found.difference_nano,
                    "rows": rows,
                }
            ).data
        )


class SummaryView(ApiView):
    """Earnings in a few figures."""

    @endpoint(
        "earnings_read", "See what you earned: available, pending, 30 days, lifetime.", answers=Summary, reads=True
    )
    def get(self, request):
        money_now, earned = wallets.summary(request.user), earnings.totals(request.user, now=timezone.now())
        return Response(Summary(vars(earned) | vars(money_now)).data)


class PaymentsView(ApiView):
    """Every payment."""

    @endpoint(
        "earnings_payments",
        "List your payments: one per epoch, model and role.",
        query=PaymentQuery,
        answers=page_of(PaymentShown),
        reads=True,
    )
    def get(self, request):
        told = query_of(request, PaymentQuery)
        after = told.pop("after", "")
        if after and not _CURSOR.match(after):
            raise bad_cursor()
        found = statements.page(request.user, _filters(request.user, told), after=after)
        return page_response(request, PaymentShown(found.rows, many=True).data, found.next)


class PaymentLinesView(ApiView):
    """What a payment is made of."""

    @endpoint(
        "earnings_lines",
        "List the lines of a payment: one per charge.",
        query=PageQuery,
        answers=page_of(LineRow),
        reads=True,
    )
    def get(self, request, epoch_id, role):
        if role not in Line.Role.values:
            raise exceptions.NotFound
        epoch = find(Epoch.objects.exclude(status=Epoch.Status.CLOSED), pk=epoch_id)
        lines = Line.objects.filter(epoch=epoch, payee=request.user, role=role)
        lines = lines.annotate(refunded=statements.GIVEN_BACK)
        if not lines.exists():
            raise exceptions.NotFound
        return page(request, lines, LineRow, key="amount_nano")


class LineView(ApiView):
    """One line down to its integers."""

    @endpoint(
        "earnings_why", "See why a line is what it is: all integers to redo the sum.", answers=LineSumShown, reads=True
    )
    def get(self, request, line_id):
        line = find(Line.objects.filter(payee=request.user).select_related("epoch"), pk=line_id)
        found = explain_lines.sum_of(line)
        if found is None:
            raise exceptions.NotFound
        return Response(LineSumShown(found).data)


class StatementView(ApiView):
    """The statement of the page, byte for byte."""

    @endpoint(
        "earnings_statement",
        "Read your statement: exactly the file of the page.",
        query=Filter,
        answers=Statement,
        reads=True,
    )
    def get(self, request):
        rows = statements.every(request.user, _filters(request.user, query_of(request, Filter)))
        return HttpResponse(statements.as_json(rows), content_type="application/json")


def _filters(user: User, told: dict) -> statements.Filters:
    ids = {}
    given_to = Datanet.objects.filter(pk__in=Record.objects.filter(contributor=user).values("datanet"))
    for name, known in (("model", ListedModel.objects.all()), ("datanet", given_to)):
        if path := told.pop(name, ""):
            owner, _slash, slug = path.partition("/")
            ids[f"{name}_id"] = find(known, owner__username=owner, slug=slug).pk
    return statements.Filters(**ids, record_id=told.pop("record", None), **told)
