"""Letters of what must not wait until somebody looks into their inbox: the notification's own sentence, in their language."""

from __future__ import annotations

import logging
from smtplib import SMTPException

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import override

from .models import Notification
from .views import explanations

logger = logging.getLogger(__name__)

BATCH = 100


def send_letters() -> int:
    """Send the letters that wait, each once: one that is cut short is not repeated, as the inbox has it in any case.

    Returns how many were sent.
    """
    sent = 0
    for line in _take():
        if not line.user.is_active or not line.user.email:
            continue
        try:
            _send(line)
            sent += 1
        except (OSError, SMTPException):  # the mail server is away: the next round tries again
            logger.exception("a letter about notification %s could not be sent", line.pk)
            Notification.objects.filter(pk=line.pk).update(wants_mail=True)
    return sent


@transaction.atomic
def _take() -> list[Notification]:
    waiting = Notification.objects.filter(wants_mail=True).select_related("user").order_by("pk")
    taken = list(waiting.select_for_update(skip_locked=True, of=("self",))[:BATCH])
    Notification.objects.filter(pk__in=[line.pk for line in taken]).update(wants_mail=False)
    return taken


def _send(line: Notification) -> None:
    with override(line.user.language):
        sentence = explanations.notification_sentence(line)
        text = _("%(sentence)s\n\n%(address)s\n\nYou get this letter because you have an account at %(site)s.\n") % {
            "sentence": sentence,
            "address": f"{settings.SITE_URL}{line.url}",
            "site": settings.SITE_NAME,
        }
        subject = " ".join(f"[{settings.SITE_NAME}] {sentence}".split())
    send_mail(subject[:200], text, None, [line.user.email])
