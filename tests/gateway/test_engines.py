"""Every kind of input: rows, pictures, numbers as answers, and neighbours."""

from __future__ import annotations

import base64
import io
import uuid

import numpy as np
import pytest
from PIL import Image

from attribution import features, traces
from attribution.engines import ENGINES
from attribution.models import Trace
from ledger import chart
from ledger import services as ledger
from marketplace import listings
from marketplace.models import Call
from tests.gateway import shop as shops
from tests.gateway.conftest import wait_until
from tests.gateway.shop import OPEN

SIDE = 8


def picture(dark: str, *, size: int = SIDE) -> Image.Image:
    """Left or right half dark."""
    pixels = np.full((size, size), 240, dtype=np.uint8)
    half = slice(0, size // 2) if dark == "left" else slice(size // 2, size)
    pixels[:, half] = 10
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG") -> str:
    out = io.BytesIO()
    image.save(out, kind)
    return base64.b64encode(out.getvalue()).decode()


def image_artifact(engine: str):
    images = [picture(("left", "right")[i % 2]) for i in range(20)]
    spec = features.fit_spec(images, {}, "image", image_side=SIDE)
    labels = [("left", "right")[i % 2] for i in range(20)]
    options = {"standardise": False} | ({"task": "classification"} if engine == "linear" else {"k": 3})
    artifact = ENGINES[engine].fit(features.transform(spec, images), labels, np.ones(20), options)
    serving = {
        "kind": "image",
        "versions": [],
        "records": list(range(1, 21)),
        "identities": [f"{i:064x}" for i in range(1, 21)],
        "spec": spec,
        "gated": [],
        "shares": [1] * 20,
    }
    return artifact, serving


@pytest.fixture(scope="module")
def kinds(shop, gateway):
    """Two picture models and one that predicts a number."""
    erin = shops.person("erin")
    for slug, engine in (("halves", "linear"), ("near", "neighbours")):
        model = listings.create_model(owner=erin, name=slug, slug=slug, purpose="Tells halves", engine=engine)
        shops.add_version(model, *image_artifact(engine))
        shops.listed(model, call=500)
    model = listings.create_model(owner=erin, name="sizes", slug="sizes", purpose="Predicts", engine="linear")
    shops.add_version(model, *shops.tumour_artifact(task="regression"))
    shops.listed(model, call=700)
    wait_until(lambda: gateway.get("/v1/models/erin/sizes").status_code == 200)
    return shop


def test_a_picture_is_classified_whatever_its_format(gateway, kinds):
    _, key = kinds.buyer("dan-pictures", OPEN)

    for kind in ("PNG", "JPEG", "WEBP"):
        image = {"image": encoded(picture("left", size=64), kind)}
        answer = gateway.classify(key, model="erin/halves", input=image)
        assert answer.json()["label"] == "left", answer.text
    url = {"image": "data:image/png;base64," + encoded(picture("right"))}
    assert gateway.classify(key, model="erin/halves", input=url).json()["label"] == "right"


@pytest.mark.parametrize(
    "image", ["not base64!", base64.b64encode(b"GIF89a not a picture").decode(), "", encoded(picture("left"))[:60]]
)
def test_what_is_no_picture_is_refused(gateway, kinds, image):
    _, key = kinds.buyer("dan-no-picture", OPEN)

    answer = gateway.classify(key, model="erin/halves", input={"image": image})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")


def test_a_picture_with_too_many_pixels_is_refused(gateway, kinds):
    dan, key = kinds.buyer("dan-bomb", OPEN)
    bomb = Image.new("1", (20_000, 20_000))

    refused = gateway.classify(key, model="erin/halves", input={"image": encoded(bomb)})

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_value")
    assert ledger.open_holds(chart.wallet(dan.pk)) == []
    assert not Call.objects.filter(buyer=dan).exists()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/classify", {"model": "erin/halves", "input": shops.ROW}),
        ("/v1/classify", {"model": "erin/halves", "input": "a text"}),
        ("/v1/classify", {"model": "erin/tumours", "input": "a text"}),
        ("/v1/classify", {"model": "erin/tumours", "input": {"image": "AAAA"}}),
        ("/v1/classify", {"model": "erin/fine", "input": "a text"}),
        ("/v1/predict", {"model": "erin/halves", "input": {"image": "AAAA"}}),
        ("/v1/chat/completions", {"model": "erin/halves", "messages": [{"role": "user", "content": "?"}]}),
    ],
    ids=["row for pictures", "text for pictures", "text for rows", "picture for rows", "chat model", "predict", "chat"],
)
def test_a_model_refuses_what_is_of_another_kind_and_nothing_is_held(gateway, kinds, path, body):
    dan, key = kinds.buyer(f"dan-mixes-{uuid.uuid4().hex[:8]}", OPEN)

    refused = gateway.post(path, body, key=key)

    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["type"]) == (400, "invalid_value", "invalid_request_error")
    assert error["param"] in ("input", "model")
    assert ledger.open_holds(chart.wallet(dan.pk)) == []
    assert kinds.balance_nano(dan) == OPEN


def test_neighbours_are_named_by_their_commitments(gateway, kinds):
    _, key = kinds.buyer("dan-near", OPEN)

    told = gateway.classify(key, model="erin/near", input={"image": encoded(picture("left"))}).json()

    assert told["label"] == "left"
    assert [one["record"] for one in told["neighbours"]] == [f"{i:064x}" for i in (1, 3, 5)]
    assert traces.trace(f"call:{told['open']['receipt_id']}").status == "done"


def test_a_number_is_predicted_at_its_own_address(gateway, kinds):
    _, key = kinds.buyer("dan-predicts", OPEN)
    body = {"model": "erin/sizes", "input": shops.ROW}

    answer = gateway.post("/v1/predict", body, key=key)
    wrong = gateway.post("/v1/classify", body, key=key)

    assert answer.json()["value"] == pytest.approx(14.2, abs=0.5)
    assert answer.json()["object"] == "prediction"
    assert wrong.json()["error"]["param"] == "model"
    assert gateway.get("/v1/models/erin/sizes").json()["endpoints"] == ["/v1/predict"]


def test_a_charged_classification_can_be_attributed(gateway, kinds):
    _, key = kinds.buyer("dan-traced", OPEN)
    receipt_id = gateway.classify(key).json()["open"]["receipt_id"]

    traces.trace(f"call:{receipt_id}")

    trace = Trace.objects.get(charge_id=receipt_id)
    _places, scores = traces.scores_of(trace)
    assert trace.status == "done"
    assert 999_999_000 <= sum(map(abs, scores.tolist())) <= 1_000_000_000
