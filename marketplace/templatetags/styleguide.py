"""Sample values for templates/styleguide.html, the page that shows every component (demo state only)."""

from datetime import timedelta

from django import forms, template
from django.utils import timezone

from marketplace import charts

register = template.Library()

NANO = charts.OPEN


class SampleForm(forms.Form):
    """One field of each kind."""

    title = forms.CharField(help_text="What people will see in lists.")
    kind = forms.ChoiceField(choices=[("text", "Text"), ("tabular", "Table"), ("image", "Images")])
    access = forms.ChoiceField(choices=[("open", "Open"), ("pass", "Pass")], widget=forms.RadioSelect)
    note = forms.CharField(widget=forms.Textarea(attrs={"rows": 3}), required=False)
    price = forms.DecimalField(max_digits=12, decimal_places=9)
    file = forms.FileField(required=False)
    terms = forms.BooleanField(label="I have the right to share every file")


@register.simple_tag
def samples() -> dict:
    """Everything the style guide shows."""
    now = timezone.now()
    form = SampleForm({"title": "Open-source licences", "kind": "text", "access": "open", "price": "many"})
    form.is_valid()
    days = [f"{d} Nov" for d in range(1, 31)]
    licences = [int(NANO * (0.8 + 0.05 * i + (i % 5) * 0.1)) for i in range(30)]
    tumours = [int(NANO * (0.3 + (i % 7) * 0.06)) for i in range(30)]
    digits = [int(NANO * (0.1 + (i % 3) * 0.05)) for i in range(30)]
    return {
        "now": now,
        "form": form,
        "earlier": now - timedelta(hours=3),
        "last_week": now - timedelta(days=8),
        "parts": [13_200_000, 8_400_000, 1_200_000, 1_200_001],
        "stats": [
            {"label": "Available now", "amount_nano": 412_860_000_000, "url": "#", "url_label": "Withdraw"},
            {"label": "Pending", "amount_nano": 45_940_120_000, "note": "available on 29 Nov, after the 7-day check"},
            {"label": "Last 30 days", "amount_nano": 153_120_000_000, "note": "41 more than the 30 days before"},
            {"label": "Calls", "value": "41,870", "note": "used your records"},
        ],
        "tabs": [
            {"url": "#", "label": "Preview", "current": True},
            {"url": "#", "label": "Contributors", "count": 312},
            {"url": "#", "label": "Versions", "count": 12},
            {"url": "#", "label": "Payouts"},
        ],
        "seg": [
            {"url": "#", "label": "Mine", "count": 6, "current": True},
            {"url": "#", "label": "Open", "count": 23},
            {"url": "#", "label": "Disputed", "count": 0},
        ],
        "bars": charts.stacked_bars(
            labels=days,
            series=[
                charts.Series("Open-source licences", licences, "v1"),
                charts.Series("Breast tumour diagnosis", tumours, "v2"),
                charts.Series("Handwritten digits", digits, "v3"),
            ],
            title="Earned per day by Datanet, 1 to 30 November",
            finding="The total rises from about 1.2 to 3 OPEN per day. The last 7 days are pending.",
            text=charts.open_4,
            scale=charts.OPEN,
            pending_from=23,
            pending_label="Pending",
            total_label="Total",
        ),
        "calls": charts.line(
            labels=days,
            values=[3800 + i * 95 - (900 if i % 7 in (1, 2) else 0) for i in range(30)],
            title="Calls per day",
            finding="From about 3,900 to 6,400 calls per day, lower at weekends.",
            value_label="Calls",
        ),
        "timeline": [
            {"text": "Received", "at": now - timedelta(hours=5), "state": "done"},
            {"text": "Checked", "at": now - timedelta(hours=4), "state": "done"},
            {"text": "In review", "note": "usually 9 hours", "state": "now"},
            {"text": "In use", "note": "after the next version"},
        ],
        "steps": [
            {"label": "Choose Datanet", "note": "Open-source licences", "state": "done", "url": "#"},
            {"label": "Upload and check", "note": "4 files, 1 needs you", "state": "now"},
            {"label": "Describe", "note": "Source, rights, language"},
            {"label": "Send for review", "note": "Usually 9 hours"},
        ],
        "code": [
            {
                "label": "Python",
                "language": "python",
                "source": "from openai import OpenAI\n\n"
                'client = OpenAI(base_url="https://gateway.example/v1", api_key="open_sk_…")\n'
                'answer = client.chat.completions.create(\n    model="carol/licences",\n    messages=[{"role": "user", '
                '"content": "May I sell it?"}],\n)\nprint(answer.choices[0].message.content)  # who was paid, and why',
            },
            {
                "label": "curl",
                "language": "bash",
                "source": 'curl https://gateway.example/v1/models \\\n  -H "Authorization: Bearer $OPEN_KEY"',
            },
        ],
        "why": [
            {"text": "Buyers paid for 486 calls", "amount_nano": 11_200_000_000, "percent": 100, "colour": "v5"},
            {"text": "Data contributors' part, 35%", "amount_nano": 3_920_000_000, "percent": 35, "colour": "v2"},
            {"text": "Your influence, 31.0%", "amount_nano": 1_215_200_000, "percent": 10.85, "colour": "v1"},
        ],
        "records": [
            {
                "share_text": "9.4%",
                "text": "Redistribution and use in source and binary forms",
                "amount_nano": 368_000_000,
            },
            {"share_text": "6.8%", "text": "The above copyright notice shall be included", "amount_nano": 266_000_000},
            {"share_text": "14.8%", "text": "35 others", "amount_nano": 581_200_000},
        ],
        "terms": [
            {"label": "Charged", "amount_nano": 18_240_000_000_000, "note": "402,118 calls"},
            {"label": "Refunded", "amount_nano": 36_480_000_000, "note": "812 calls", "op": "\u2212"},
            {"label": "Split", "amount_nano": 18_203_520_000_000, "note": "2,918 people", "op": "\u2212"},
            {"label": "Difference", "amount_nano": 0, "note": "must be zero", "op": "="},
        ],
        "proof": [
            {
                "key": "hash",
                "label": "Receipt hash",
                "result": "ok",
                "value": "9c1f00a77e4d1b22c3d4e5f60718293a4b5c6d7e",
            },
            {
                "key": "signature",
                "label": "Signed by the platform",
                "result": "ok",
                "value": "ed25519:5b0219dd00112233",
            },
            {"key": "proof", "label": "Included in checkpoint 1,204", "result": "wait", "text": "14 steps"},
            {
                "key": "witness",
                "label": "Witnessed twice",
                "result": "bad",
                "text": "One of two signatures is missing.",
            },
        ],
        "facts": [("Leaves the treasury", "18,203.52 OPEN"), ("Payees", "2,916 paid, 2 held"), ("Can be undone", "No")],
        "kv": [
            {"name": "Access", "value": "Approval required"},
            {"name": "Training fee", "amount_nano": 1_200_000_000_000, "places": 2},
            {"name": "Size", "value": "48,210 records, 61 MB"},
        ],
        "sort": [("used", "Most used, 30 days"), ("quality", "Highest quality"), ("new", "Newest")],
        "bulk": [
            {"name": "decision", "value": "approve", "label": "Approve 3", "kind": "ok"},
            {"name": "decision", "value": "release", "label": "Release", "kind": "ghost"},
        ],
        "rows": [["Licence text", "612", "0.0312"], ["Notice", "88", "0.0040"]],
        "columns": ["Passage", "Calls", "OPEN"],
        "numeric": [1, 2],
        "many": "4,9,18,26,20,12,7,3,2,1",
        "trend": "4,9,8,16,12,18,17,23,22,31",
    }
