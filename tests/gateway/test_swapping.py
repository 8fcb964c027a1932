"""Artifacts are checked once and mapped; a new version takes over while calls of the old one run."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from django.conf import settings

from attribution.engines import ENGINES
from marketplace import listings
from marketplace.models import Call, ModelVersion
from tests.gateway import shop as shops
from tests.gateway.conftest import Gateway, wait_until
from tests.gateway.shop import OPEN

RECORDS = 30_000


def artifact_that_says(word: str):
    """Neighbours who all say one word, and so many that an answer takes some milliseconds in a thread."""
    _, serving = shops.tumour_artifact()
    matrix = np.random.default_rng(len(word)).normal(size=(RECORDS, len(serving["spec"]["names"])))
    artifact = ENGINES["neighbours"].fit(matrix, [word] * RECORDS, np.ones(RECORDS), {})
    return artifact, serving | {
        "records": list(range(1, RECORDS + 1)),
        "identities": [f"{i:064x}" for i in range(1, RECORDS + 1)],
        "shares": [1] * RECORDS,
    }


def published(model) -> ModelVersion:
    """Publish a version of a model that says its path, as training does."""
    version = shops.add_version(model, *artifact_that_says(f"{model.slug} v{model.versions.count() + 1}"))
    listings.announce_catalogue()
    return version


def listed_model(slug: str):
    model = listings.create_model(
        owner=shops.person("erin"), name=slug, slug=slug, purpose="Says a word", engine="neighbours"
    )
    version = published(model)
    shops.listed(model, call=500)
    return model, version


def is_mapped(gateway: Gateway, version: ModelVersion) -> bool:
    maps = Path(f"/proc/{gateway.process.pid}/maps").read_text()
    return f"artifacts/{version.artifact_sha256}/arrays.safetensors" in maps


def test_every_call_is_answered_by_the_version_that_its_receipt_names(gateway, shop):
    # Given callers who do not stop, and a model whose first version is mapped, not read
    model, first = listed_model("words")
    _, key = shop.buyer("dan-swaps", OPEN)
    wait_until(lambda: gateway.classify(key, model="erin/words").status_code == 200)
    assert is_mapped(gateway, first)
    answers, enough = [], threading.Event()

    def call_on() -> None:
        while not enough.is_set():
            answers.append(gateway.classify(key, model="erin/words"))

    with ThreadPoolExecutor(6) as threads:
        try:
            for _ in range(6):
                threads.submit(call_on)
            wait_until(lambda: len(answers) > 12)

            # When a second version is published
            second = published(model)
            wait_until(lambda: any(answer.json()["label"] == "words v2" for answer in answers[-6:]))
        finally:
            enough.set()

    # Then each answer is the one of the version that it, its receipt and the books name
    assert {answer.status_code for answer in answers} == {200}
    named = dict(Call.objects.filter(model=model).values_list("pk", "version__number"))
    for told in (answer.json() for answer in answers):
        number = next(n for pk, n in named.items() if str(pk) == told["open"]["receipt_id"])
        assert told["label"] == f"words v{number}"
        assert told["model"] == told["open"]["model_version"] == f"erin/words@v{number}"
    assert {told["label"] for told in (answer.json() for answer in answers)} == {"words v1", "words v2"}

    # And nothing of the old one stays, though its pinned name goes on to answer
    wait_until(lambda: not is_mapped(gateway, first))
    assert is_mapped(gateway, second)
    assert gateway.classify(key, model="erin/words@v1").json()["label"] == "words v1"


def test_a_version_is_read_before_it_is_called(gateway, shop):
    model, first = listed_model("ahead")
    _, key = shop.buyer("dan-ahead", OPEN)
    wait_until(lambda: gateway.classify(key, model="erin/ahead").status_code == 200)

    second = published(model)

    wait_until(lambda: is_mapped(gateway, second) and not is_mapped(gateway, first))
    assert gateway.get("/v1/models/erin/ahead").json()["version"] == "v2"


def test_a_model_whose_files_were_changed_is_refused_and_others_go_on(gateway, shop):
    # Given a second version with one bit changed on the disk
    model, _ = listed_model("damaged")
    dan, key = shop.buyer("dan-damaged", OPEN)
    wait_until(lambda: gateway.classify(key, model="erin/damaged").status_code == 200)
    version = shops.add_version(model, *artifact_that_says("damaged v2"))
    path = Path(settings.STORAGE_DIR, "artifacts", version.artifact_sha256, "arrays.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    listings.announce_catalogue()
    wait_until(lambda: gateway.get("/v1/models/erin/damaged").json()["version"] == "v2")

    # When it is called
    refused = gateway.classify(key, model="erin/damaged")

    # Then it says so and costs nothing, and what is not damaged answers
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_unavailable")
    assert "missing or damaged" in refused.json()["error"]["message"]
    assert Call.objects.filter(buyer=dan, version=version).count() == 0
    assert gateway.classify(key, model="erin/damaged@v1").json()["label"] == "damaged v1"
    assert gateway.classify(key).status_code == 200
