"""Atypical and useless rows are told from honest ones, on real digits; where there is too little to judge, nobody is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from attribution import noise
from attribution.engines import linear
from attribution.noise import typicality
from attribution.noise.value import Values, losses_at, sharpness
from tests.attribution.noise_tasks import SETTINGS, digits

SMALL = {"incumbents": 420, "validation": 120, "entrants": 192, "classes": 5, "called": 60}
LEAST = {"incumbents_min": 400, "validation_min": 100}


def judged(kind: str, seed: int) -> noise.Judgement:
    task, _claims = digits(kind, seed, **SMALL)
    return noise.judge(task, **LEAST)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["garbage", "shuffled"])
def test_rows_that_teach_nothing_are_convicted(kind, seed):
    found = judged(kind, seed)
    assert found.convicted == found.blocks
    assert found.z > 3
    assert found.value < found.expected / 2


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["honest", "one class"])
def test_an_honest_newcomer_is_not_even_of_one_class_alone(kind, seed):
    assert judged(kind, seed).convicted == []


def test_rows_labelled_by_the_model_itself_can_be_convicted():
    """Six blocks show it in this draw; docs/attribution.md says in how many."""
    task, _claims = digits("pseudo", 2, **(SMALL | {"incumbents": 600, "entrants": 384}))
    found = noise.judge(task, **LEAST)
    assert found.convicted == found.blocks
    assert found.value < found.expected / 2


def test_garbage_does_not_take_an_honest_newcomer_with_it():
    # Given blocks of garbage, and blocks of real rows, that came together
    garbage, _ = digits("garbage", 4, **SMALL)
    honest, _ = digits("honest", 4, **SMALL)
    is_new = honest.block >= 0
    rows, labels = (
        np.vstack([garbage.rows, honest.rows[is_new]]),
        np.concatenate([garbage.labels, honest.labels[is_new]]),
    )
    block = np.concatenate([garbage.block, honest.block[is_new] + 10])
    claims = np.concatenate([garbage.claims, honest.claims[is_new]])
    found = noise.judge(replace(garbage, rows=rows, labels=labels, block=block, claims=claims), **LEAST)

    assert {one.number for one in found.convicted} == {0, 1, 2}


def test_honest_rows_that_a_model_finds_hard_are_asked_for_themselves_in_a_crowd_of_garbage():
    # Given blocks of garbage, and one block of real rows that are atypical: the model of the incumbents finds them hard
    size = {"incumbents": 700, "validation": 150, "called": 80}
    garbage, _ = digits("garbage", 0, entrants=320, **size)
    honest, _ = digits("honest", 0, entrants=600, **size)
    old, new = (np.flatnonzero(which) for which in (honest.block == noise.Task.INCUMBENT, honest.block >= 0))
    theta = linear.fit(honest.rows[old][:, :-1], honest.labels[old], np.ones(len(old)), SETTINGS).arrays["theta"]
    hard = new[np.argsort(-losses_at(1.0, honest.rows[new] @ theta.T, honest.labels[new]))[60:124]]
    # When all of them are judged
    found = noise.judge(
        replace(
            garbage,
            rows=np.vstack([garbage.rows, honest.rows[hard]]),
            labels=np.concatenate([garbage.labels, honest.labels[hard]]),
            block=np.concatenate([garbage.block, np.full(len(hard), 10)]),
            claims=np.concatenate([garbage.claims, honest.claims[hard]]),
        ),
        **LEAST,
    )
    # Then the garbage is convicted, and they are not, though they look as unusual
    [hard_block] = [block for block in found.blocks if block.number == 10]
    assert hard_block.typicality.is_atypical
    assert hard_block.acquitted
    assert {block.number for block in found.convicted} == {0, 1, 2, 3, 4}


def test_the_same_rows_are_judged_the_same():
    task, _claims = digits("garbage", 0, **SMALL)
    assert noise.judge(task, **LEAST) == noise.judge(task, **LEAST)


@pytest.mark.parametrize(
    "code, change, limits",
    [
        ("few_incumbents", {}, {"incumbents_min": 421}),
        ("few_validation", {}, {"validation_min": 121}),
        ("nothing_new", {"block": np.full(732, -1)}, {}),
        ("no_claim", {"claims": np.full(732, -1.0)}, {}),
    ],
)
def test_too_little_to_judge_is_said_with_its_numbers(code, change, limits):
    task, _claims = digits("garbage", 0, **SMALL)
    with pytest.raises(noise.Refused) as refused:
        noise.judge(replace(task, **change), **(LEAST | limits))
    assert refused.value.code == code
    if limits:
        assert refused.value.found == refused.value.needed - 1


def test_the_published_floor_is_a_thousand_incumbents_and_250_judges():
    assert (noise.INCUMBENTS_MIN, noise.VALIDATION_MIN) == (1000, 250)
    task, _claims = digits("garbage", 0, **SMALL)
    with pytest.raises(noise.Refused, match="420 of 1000"):
        noise.judge(task)


def test_the_loss_without_an_incumbent_is_that_of_really_training_without_it():
    task, _claims = digits("honest", 0, **SMALL)
    incumbent = task.block == noise.Task.INCUMBENT
    values = Values(
        task.rows[incumbent],
        task.labels[incumbent],
        incumbent=np.ones(incumbent.sum(), dtype=bool),
        nearest=np.full(incumbent.sum(), -1),
        judges=(task.rows[:1], task.labels[:1]),
        claims=task.claims[incumbent],
        settings=task.settings,
    )
    everyone = np.ones(incumbent.sum(), dtype=bool)
    _judged, logits = values.held_out_logits(everyone)
    for place in (0, 7, 100):
        without = everyone.copy()
        without[place] = False
        really = values.rows[place] @ values.fitted(without).T
        assert np.abs(logits[place] - really).max() < 0.05


def test_being_surer_is_worth_nothing_after_calibration():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((200, 3)), rng.integers(0, 3, 200)
    logits[np.arange(200), labels] += 1.0
    losses = [losses_at(sharpness(z, labels), z, labels).mean() for z in (logits, 2.5 * logits)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses_at(2.5, logits, labels).mean() > losses[0]


def test_rows_of_the_incumbents_own_kind_have_even_percentiles():
    rng = np.random.default_rng(1)
    known, new = (typicality.unit(rng.standard_normal((n, 8))) for n in (600, 200))
    found = typicality.percentiles(
        known_losses=rng.random(600),
        new_losses=rng.random(200),
        known_labels=rng.integers(0, 4, 600),
        new_labels=rng.integers(0, 4, 200),
        known=known,
        new=new,
        rng=rng,
    )
    assert not typicality.of_block(found, np.arange(64)).is_atypical
    copies = found._replace(siblings=np.full(200, 0.99))
    assert typicality.of_block(copies, np.arange(64)).is_atypical
