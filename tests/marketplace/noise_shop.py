"""A shop in which noise can be judged: enough rows of Alice's, then Bob's honest ones and Mallory's garbage."""

from __future__ import annotations

import numpy as np

from attribution.models import NoiseCase
from datanets.models import Version
from marketplace import noise_cases, publishing
from marketplace.models import ModelVersion
from tests.datanets.cast import person, send, table
from tests.marketplace.pages.world import call, fund, settle
from tests.shop import approve_all, published, trained

#: What this shop has, as the settings of a test: far below what a site needs to judge.
LEAST = {"NOISE_INCUMBENTS_MIN": 30, "NOISE_VALIDATION_MIN": 2}


def honest_rows(count: int, *, seed: int) -> list[tuple]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    return [
        (
            round(float(rng.normal(13 + 8 * label, 1.5)), 3),
            round(float(rng.normal(18 + 4 * label, 3)), 3),
            ("benign", "malignant")[label],
        )
        for label in labels
    ]


def garbage_rows(count: int, *, seed: int) -> list[tuple]:
    rng = np.random.default_rng(seed)
    return [
        (
            round(float(rng.uniform(5, 40)), 3),
            round(float(rng.uniform(5, 45)), 3),
            ("benign", "malignant")[rng.integers(2)],
        )
        for _ in range(count)
    ]


def noisy_version(books, *, second: dict[str, list[tuple]] | None = None) -> ModelVersion:
    """Devi's model on version 2 of a Datanet: Alice's rows were there before, the others' came with it. Dan has called it."""
    first = published({"alice": honest_rows(70, seed=21)})
    second = second or {"bob": honest_rows(32, seed=22), "mallory": garbage_rows(48, seed=23)}
    for name, rows in second.items():
        send(first.datanet, table(rows), by=name)
    approve_all(first.datanet)
    newer: Version = publishing.publish_version(first.datanet, by=first.datanet.owner)
    fund(books, person("devi"), 100)
    fund(books, person("dan"), 10)
    version = trained(books, newer, settings={"l2": 1.0})
    used(books, version, epochs_later=1)
    return version


def used(books, version: ModelVersion, *, epochs_later: int, calls: int = 4) -> None:
    """Some calls of Dan's, and the epoch that pays for them."""
    for number in range(calls):
        call(version, person("dan"), radius=11.0 + 4 * number, texture=16.0 + 2 * number)
    settle(books, epochs_later=epochs_later)


def judged() -> list[NoiseCase]:
    noise_cases.judge_due()
    return list(NoiseCase.objects.order_by("opened_at"))
