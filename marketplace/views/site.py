"""Pages about the site itself: health, the demo's mail box, the style guide."""

from __future__ import annotations

import email
import email.policy
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.template.loader import get_template
from django.urls import path


def healthz(request: HttpRequest) -> JsonResponse:
    """200 once the database answers; load balancers and `dev.py up` ask this."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok"})


def server_error(request: HttpRequest) -> HttpResponse:
    """The page of a fault of ours, with its request id. Without context processors: they read the database."""
    return HttpResponse(get_template("500.html").render({"request": request}), status=500)


def dev_mail(request: HttpRequest) -> HttpResponse:
    """The mail a demo state would have sent, newest first. Mounted in a demo state only."""
    folder = Path(settings.EMAIL_FILE_PATH)
    files = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True)[:50]
    return render(request, "marketplace/dev_mail.html", {"messages_sent": [_read(path) for path in files]})


def _read(path: Path) -> dict:
    # The file back end ends each message with a line of dashes.
    text = path.read_bytes().split(b"\n" + b"-" * 79)[0]
    message = email.message_from_bytes(text, policy=email.policy.default)
    body = message.get_body(preferencelist=("plain",))
    return {
        "to": message["To"],
        "subject": message["Subject"],
        "date": message["Date"],
        "text": body.get_content() if body else "",
    }


def dev_styleguide(request: HttpRequest) -> HttpResponse:
    """Every component on one page."""
    return render(request, "styleguide.html")


pages: list = []
demo_only = [
    path("dev/mail/", dev_mail, name="dev_mail"),
    path("dev/styleguide/", dev_styleguide, name="dev_styleguide"),
]
