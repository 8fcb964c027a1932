"""What pages say of calls holds when it is tried: programs run as they stand, and answers lead to their page and proof."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.test import Client

from datanets.models import Datanet
from ledger import services as ledger
from marketplace import publishing
from marketplace.models import Call
from tests.datanets.cast import SCHEMA, make_datanet, measured, send, table
from tests.gateway import shop as shops
from tests.gateway.conftest import Gateway, open_connected_shop, running_gateway
from tests.gateway.shop import OPEN
from tests.shop import approve_all, fund, person, published, settle, trained

# A category that a shell, and somebody who replaces words in JSON, would both misunderstand.
SHAPES = ["isn't: true", "round"]
COLUMNS = [
    {"name": "radius", "type": "number", "required": True},
    {"name": "shape", "type": "category", "required": True, "values": SHAPES},
    {"name": "is smooth", "type": "boolean", "required": True},
    {"name": "diagnosis", "type": "category", "required": True, "values": ["benign", "malignant"]},
]


@pytest.fixture(scope="module")
def shop(books_of_module, upstream) -> Iterator[shops.Shop]:
    """Models that chat and that classify rows, one of them of strange words."""
    before = settings.OUTBOUND_ALLOW, settings.REVIEW_UNDO_S
    opened = open_connected_shop(books_of_module, upstream)
    settings.REVIEW_UNDO_S = 0
    fund(books_of_module, person("devi"), 10)
    trained(books_of_module, published({"alice": measured(20), "bob": measured(20, start=20)}))
    trained(books_of_module, published_shapes(), name="Shapes")
    yield opened
    settings.OUTBOUND_ALLOW, settings.REVIEW_UNDO_S = before


def published_shapes():
    datanet: Datanet = make_datanet("Shapes", schema={**SCHEMA, "columns": COLUMNS})
    rows = [
        (radius, SHAPES[n // 2 % 2], ("true", "false")[n // 4 % 2], label)
        for n, (radius, _, label) in enumerate(measured(40))
    ]
    send(datanet, table(rows, header="radius,shape,is smooth,diagnosis"))
    approve_all(datanet)
    return publishing.publish_version(datanet, by=datanet.owner)


@pytest.fixture(scope="module")
def gateway(shop) -> Iterator[Gateway]:
    before = settings.GATEWAY_URL
    with running_gateway(shop.books, OUTBOUND_ALLOW=settings.OUTBOUND_ALLOW[0]) as running:
        settings.GATEWAY_URL = running.url
        yield running
    settings.GATEWAY_URL = before


def programs(model: str, key: str) -> dict[str, str]:
    """By language, from the page of a model; in place of what stands for the reader's key, a real one."""
    text = Client().get(f"/en/models/{model}/").content.decode()
    labels = re.findall(r'id="snippet-tab-\d"[^>]*>([^<]+)<', text)
    sources = re.findall(r'<code id="snippet-\d-text">(.*?)</code>', text, flags=re.S)
    assert labels == ["Python", "curl", "JavaScript"]
    plain = [html.unescape(re.sub(r"<[^>]+>", "", source)) for source in sources]
    return dict(zip(labels, (re.sub("open_sk_…", key, one) for one in plain), strict=True))


@pytest.mark.parametrize("model", ["erin/fine", "devi/check", "devi/shapes"])
def test_the_programs_of_a_models_page_run_as_they_stand(gateway, shop, model):
    dan, key = shop.buyer(f"dan-runs-{model.partition('/')[2]}", OPEN)
    shown = programs(model, key)
    commands = {"Python": [sys.executable, "-c", shown["Python"]], "curl": ["bash", "-c", shown["curl"]]}
    if shutil.which("node") and model != "erin/fine":  # who chats in JavaScript needs a package
        commands["JavaScript"] = ["node", "--input-type=module", "-e", shown["JavaScript"]]
    for language, command in commands.items():
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "receipt_id" in done.stdout, (language, done.stdout, done.stderr)

    assert Call.objects.filter(buyer=dan, status="succeeded").count() == len(commands)


def test_an_answer_leads_to_its_page_its_split_and_its_proof(gateway, shop):
    # Given a call of Dan's, and the end of its epoch
    dan, key = shop.buyer("dan-follows", OPEN)
    told = gateway.classify(key, model="devi/check").json()["open"]
    settle(shop.books)

    # When he follows the address in its answer
    address = urlsplit(told["attribution_url"])
    client = Client()
    client.force_login(dan)
    page = client.get(address.path)

    # Then it is on this site, and shows what he paid, who was paid what of it, and its proof
    assert f"{address.scheme}://{address.netloc}" == "http://testserver"
    assert page.status_code == 200
    text = page.content.decode()
    assert "Verified by this server." in text
    paid = text.split('id="paid"')[1].split("</table>")[0]
    amounts = [int(part.split('"')[0]) for part in paid.split('value="')[1:]]
    assert sum(amounts[:-1]) == amounts[-1] == told["cost_nano"] == sum(told["split"].values())
    for part in ("", "?part=attribution"):
        receipt = client.get(f"{address.path}.json{part}")
        assert receipt.status_code == 200
        assert gateway.get(f"/v1/receipts/{told['receipt_id']}{part}", key=key).json() == json.loads(receipt.content)
        verify = [sys.executable, "verify_receipt.py", "receipt", "/dev/stdin", "--log", ledger.log_vkey()]
        done = subprocess.run(verify, cwd=settings.BASE_DIR, input=receipt.content, capture_output=True)
        assert done.returncode == 0, done.stdout
