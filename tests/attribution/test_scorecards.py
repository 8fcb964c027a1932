"""The science of score cards: what a good model reaches, what noise does not, and that copying pays nothing."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from attribution.engines import linear, neighbours, spans
from attribution.engines.artifact import Artifact
from attribution.engines.span_words import words_of
from attribution.scorecards import agreement, heads, noise
from attribution.scorecards.plants import plants

ROWS = 360
OWNERS = np.arange(ROWS) % 9
SEED = 7


@pytest.fixture(scope="module")
def digits() -> Artifact:
    data = load_digits()
    labels = [str(label) for label in data.target[:ROWS]]
    return linear.fit(data.data[:ROWS] / 16, labels, np.ones(ROWS), {"standardise": False})


@pytest.fixture(scope="module")
def trial(digits) -> heads.Trial:
    return heads.trial(heads.rows_of(digits, OWNERS, seed=SEED), seed=SEED)


@pytest.fixture(scope="module")
def halves(trial) -> tuple[np.ndarray, np.ndarray]:
    """A hundred random halves, and what models that were really trained on them answer."""
    masks = agreement.subsets(SEED, rows=len(trial.owners), share=0.5, count=100)
    return masks, heads.retrained(trial, masks)


def test_scores_of_a_good_linear_model_predict_real_retraining(trial, halves):
    said = agreement.linear_datamodeling_score(trial.scores, *halves)

    assert said.value > 0.9
    assert said.standard_error <= 0.02
    assert (said.retrainings, said.questions) == (100, 40)


def test_shuffled_scores_predict_nothing_within_two_standard_errors(trial, halves):
    shuffled = np.random.default_rng(0).permuted(trial.scores, axis=1)
    said = agreement.linear_datamodeling_score(shuffled, *halves)

    assert abs(said.value) < 2 * said.standard_error < 0.5


def test_the_error_of_a_shared_shuffle_is_as_large_as_shuffles_differ(trial, halves):
    # Given one permutation for all questions: their correlations then rise and fall together
    random = np.random.default_rng(1)
    said = [
        agreement.linear_datamodeling_score(trial.scores[:, random.permutation(trial.scores.shape[1])], *halves)
        for _ in range(40)
    ]

    spread = np.std([one.value for one in said])
    assert np.mean([one.standard_error for one in said]) > 0.7 * spread


def test_whole_contributors_and_single_records_are_predicted_too(trial):
    masks = agreement.contributor_subsets(SEED, trial.owners, count=60)
    assert {len(set(mask[trial.owners == 3].tolist())) for mask in masks} == {1}
    by_people = agreement.linear_datamodeling_score(trial.scores, masks, heads.retrained(trial, masks))
    removed = np.random.default_rng(0).permutation(len(trial.owners))[:25]
    masks = np.ones((25, len(trial.owners)), dtype=bool)
    masks[np.arange(25), removed] = False
    alone = agreement.leave_one_out(trial.scores[:, removed], heads.retrained(trial, masks), trial.full)

    assert by_people.value > 0.9
    assert alone.value > 0.9 and alone.retrainings == 25


def test_all_subsets_of_few_contributors_are_each_there_once():
    owners = np.array([5, 5, 8, 9, 9])
    found = {tuple(mask) for mask in agreement.every_contributor_subset(owners).tolist()}

    assert len(found) == 6
    assert all(a == b and d == e for a, b, _c, d, e in found)


def test_a_vote_without_some_leaders_is_that_of_a_model_fitted_without_them():
    data = load_digits()
    labels = [str(label) for label in data.target[:200]]
    settings = {"standardise": False, "k": 5}
    model = neighbours.fit(data.data[:200], labels, np.ones(200), settings)
    questions, asked = data.data[200:220], [str(label) for label in data.target[200:220]]
    masks = agreement.subsets(3, rows=200, share=0.2, count=4)

    told = neighbours.votes_without(model, questions, asked, masks)

    for mask, shares in zip(masks, told, strict=True):
        alone = neighbours.fit(data.data[:200], labels, mask.astype(float), settings)
        outputs = [neighbours.answer(alone, row).outputs["probabilities"] for row in questions]
        assert shares.tolist() == [one.get(label, 0.0) for one, label in zip(outputs, asked, strict=True)]


def test_where_no_retraining_changes_an_answer_nothing_is_claimed():
    masks = agreement.subsets(0, rows=10, share=0.5, count=8)

    with pytest.raises(agreement.Unmeasurable) as refused:
        agreement.linear_datamodeling_score(np.ones((3, 10)), masks, np.ones((8, 3)))
    assert refused.value.code == "nothing_changes"


def test_planted_wrong_labels_are_found_and_the_area_is_that_of_other_implementations(digits):
    rows = heads.rows_of(digits, OWNERS, seed=SEED)
    assert heads.noise_found(rows, seed=SEED) > 0.9

    random = np.random.default_rng(0)
    wrong, mean = random.random(200) < 0.1, random.normal(size=200).round(1)
    assert noise.found(wrong, mean, np.ones(200)) == pytest.approx(roc_auc_score(wrong, -mean))


@pytest.mark.parametrize("labels", [["a", "b", "c"] * 20, [float(i % 7) for i in range(60)]])
def test_a_tenth_of_the_labels_becomes_wrong_and_the_others_stay(labels):
    noisy, wrong = noise.flipped(labels, seed=1)

    assert wrong.sum() == 6
    assert [one != other for one, other in zip(noisy, labels, strict=True)] == wrong.tolist()
    assert set(noisy) <= set(labels)


@pytest.mark.parametrize("engine", ["linear", "neighbours"])
def test_copying_a_contributors_records_changes_no_pay(digits, engine):
    data = load_digits()
    labels = [str(label) for label in data.target[:ROWS]]
    model = digits
    if engine == "neighbours":
        model = neighbours.fit(data.data[:ROWS], labels, np.ones(ROWS), {"standardise": False})

    assert heads.copy_gain(heads.rows_of(model, OWNERS, seed=SEED), seed=SEED) == (1.0, 0)


def test_of_a_large_model_a_sample_is_measured_and_says_so(digits, monkeypatch):
    monkeypatch.setattr(heads, "ROWS_MAX", 200)
    rows = heads.rows_of(digits, OWNERS, seed=SEED)

    assert (len(rows), rows.of) == (200, ROWS)
    assert rows.settings["l2"] == pytest.approx(1.0 * 200 / ROWS)  # as strong per row as the model's
    assert rows.owners.shape == (200,)


def test_a_planted_fact_is_repeated_word_for_word_or_in_other_words():
    for one in plants(SEED, 50):
        index = spans.fit([one.record], None, np.ones(1), {})
        assert spans.attribute(index, spans.answer(index, {"text": one.said}))[0] > 0
        assert spans.attribute(index, spans.answer(index, {"text": one.paraphrase}))[0] == 0
        assert len(words_of(one.paraphrase)) > 8
    assert plants(SEED, 3) == plants(SEED, 50)[:3]
