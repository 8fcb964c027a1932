"""django-hordak 2.0: transactions of four legs by `bulk_create`, from several processes. Prints transactions per second.

peer_hordak.py DATABASE_URL setup
peer_hordak.py DATABASE_URL post CLIENTS SECONDS
"""

import multiprocessing
import os
import sys
import time

import dj_database_url
import django
from django.conf import settings


def set_up_django(url: str) -> None:
    settings.configure(
        SECRET_KEY="bench",
        DATABASES={"default": dj_database_url.parse(url)},
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "mptt", "djmoney", "hordak"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
    )
    django.setup()


def make_accounts() -> None:
    from django.core.management import call_command
    from hordak.models import Account, AccountType

    call_command("migrate", verbosity=0, interactive=False)
    for code, name in enumerate(("fees", "data", "curation")):
        Account.objects.create(name=name, code=f"1{code}", type=AccountType.income, currencies=["EUR"])
    for number in range(16):
        Account.objects.create(name=f"payer{number}", code=f"9{number}", type=AccountType.liability, currencies=["EUR"])


def post(number: int, seconds: float, counts, together) -> None:
    from django.db import transaction
    from hordak.models import Account, Leg, Transaction
    from moneyed import Money

    payer = Account.objects.get(name=f"payer{number}")
    payees = [Account.objects.get(name=name) for name in ("fees", "data", "curation")]
    parts = [Money(5, "EUR"), Money(35, "EUR"), Money(5, "EUR")]

    def post_one() -> None:
        with transaction.atomic():
            made = Transaction.objects.create()
            legs = [Leg(transaction=made, account=payer, debit=Money(45, "EUR"))]
            legs += [Leg(transaction=made, account=a, credit=part) for a, part in zip(payees, parts, strict=True)]
            Leg.objects.bulk_create(legs)

    post_one()
    together.wait()
    end, done = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        post_one()
        done += 1
    counts[number] = done


if __name__ == "__main__":
    database_url, act = sys.argv[1:3]
    if act == "setup":
        set_up_django(database_url)
        make_accounts()
    else:
        clients, length_s = int(sys.argv[3]), float(sys.argv[4])
        set_up_django(database_url)
        context = multiprocessing.get_context("fork")
        counted, barrier = context.Array("l", clients), context.Barrier(clients)
        started = [context.Process(target=post, args=(n, length_s, counted, barrier)) for n in range(clients)]
        for one in started:
            one.start()
        for one in started:
            one.join()
        print(sum(counted) / length_s)
        sys.exit(os.EX_OK if all(counted) else os.EX_SOFTWARE)
