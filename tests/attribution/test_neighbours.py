"""The neighbours engine against the definition of the Shapley value."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from attribution.engines import neighbours
from attribution.engines.artifact import from_files
from attribution.shares import quantise
from tests.attribution.science import shapley_by_permutations


@pytest.mark.parametrize("k", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("members", [1, 2, 4, 6])
def test_knn_shapley_is_the_shapley_value_of_the_vote(members, k):
    for pattern in range(2**members):
        matches = np.array([float(pattern >> i & 1) for i in range(members)])
        voters = min(k, members)

        def vote(present, matches=matches, voters=voters):
            return sum(matches[i] for i in sorted(present)[:voters]) / voters

        expected = shapley_by_permutations(vote, members)

        assert np.allclose(neighbours.knn_shapley(matches, k=k), expected, rtol=0, atol=1e-14)


def test_support_is_the_share_of_votes_for_the_answer_by_records_that_meet_a_condition():
    features = np.array([[0.0], [1.0], [2.0], [3.0], [100.0]])
    model = neighbours.fit(features, ["a", "a", "b", "a", "b"], np.array([1.0, 1.0, 1.0, 1.0, 1.0]), {"k": 4})
    answer = neighbours.answer(model, np.array([0.0]))
    assert answer.outputs["label"] == "a"

    meets = np.array([True, False, True, False, True])
    assert neighbours.support(model, answer) == (0.75, 3)
    assert neighbours.support(model, answer, meets=meets) == (0.25, 1)
    assert neighbours.support(model, answer, meets=~np.ones(5, dtype=bool)) == (0.0, 0)


def test_support_looks_up_records_by_their_place_also_where_followers_have_no_vote():
    features = np.array([[0.0], [0.0], [1.0], [2.0]])
    model = neighbours.fit(features, ["b", "a", "a", "b"], np.array([0.0, 1.0, 1.0, 1.0]), {"k": 3})
    answer = neighbours.answer(model, np.array([0.0]))

    assert neighbours.support(model, answer, meets=np.array([False, False, True, True])) == (1 / 3, 1)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab")), min_size=2, max_size=6),
    st.integers(1, 4),
    st.integers(0, 2),
)
def test_with_ties_in_distance_the_earlier_record_comes_first_in_answer_and_scores(rows, k, question):
    # Given records on a coarse grid, so that many are equally far
    features = np.array([[float(x)] for x, _ in rows])
    labels = [label for _, label in rows]
    model = neighbours.fit(features, labels, np.ones(len(rows)), {"k": k, "standardise": False})

    answer = neighbours.answer(model, np.array([float(question)]))
    scores = neighbours.attribute(model, answer)

    # Then the neighbours are the first k by (distance, index)
    order = sorted(range(len(rows)), key=lambda i: (abs(rows[i][0] - question), i))
    assert [one["index"] for one in answer.outputs["neighbours"]] == order[:k]
    # and the scores are the Shapley values of exactly that vote
    voters = min(k, len(rows))

    def vote(present):
        return sum(labels[i] == answer.outputs["label"] for i in [j for j in order if j in present][:voters]) / voters

    assert np.allclose(scores, shapley_by_permutations(vote, len(rows)), rtol=0, atol=1e-14)
    assert scores.sum() == pytest.approx(answer.outputs["probabilities"][answer.outputs["label"]])


def test_exact_copies_tie_exactly_however_long_their_rows_are():
    random = np.random.default_rng(0)
    row = random.normal(size=784) * 1e3
    features = np.array([row + 1, row, row, row, row - 3])
    model = neighbours.fit(features, ["a", "b", "c", "d", "e"], np.ones(5), {"k": 3})

    answer = neighbours.answer(model, random.normal(size=784))

    places = {one["index"]: one["distance"] for one in answer.outputs["neighbours"]}
    copies = [places[i] for i in (1, 2, 3) if i in places]
    assert len(set(copies)) <= 1


def test_answers_are_those_of_scikit_learn():
    data = load_digits()
    features, labels = data.data[:500], [str(t) for t in data.target[:500]]
    model = neighbours.fit(features, labels, np.ones(500), {"k": 5, "standardise": False})
    other = KNeighborsClassifier(5, algorithm="brute").fit(features, labels)

    questions = data.data[600:700]

    got = [neighbours.answer(model, row).outputs for row in questions]
    assert [one["label"] for one in got] == other.predict(questions).tolist()
    assert np.allclose(
        [[n["distance"] for n in one["neighbours"]] for one in got], other.kneighbors(questions)[0], atol=1e-6
    )


def test_a_tie_of_votes_goes_to_the_label_that_sorts_first():
    model = neighbours.fit(np.array([[1.0], [2.0]]), ["zebra", "ape"], np.ones(2), {"k": 2})

    assert neighbours.answer(model, np.array([0.0])).outputs["label"] == "ape"


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 29)), min_size=1, max_size=20))
def test_copies_with_weight_zero_change_no_bit_of_anybodys_score(copies):
    random = np.random.default_rng(4)
    features, labels = random.normal(size=(30, 3)), [str(i % 3) for i in range(30)]
    places = sorted([(float(i), i, 1.0) for i in range(30)] + [(at - 0.5, of, 0.0) for at, of in copies])
    order, weights = [of for _, of, _ in places], np.array([weight for _, _, weight in places])
    alone = neighbours.fit(features, labels, np.ones(30), {})
    crowded = neighbours.fit(features[order], [labels[i] for i in order], weights, {})

    question = np.array([0.1, 0.2, 0.3])
    one, two = neighbours.answer(alone, question), neighbours.answer(crowded, question)

    before, after = neighbours.attribute(alone, one), neighbours.attribute(crowded, two)
    assert one.outputs["probabilities"] == two.outputs["probabilities"]
    assert after[weights > 0].tobytes() == before.tobytes()
    assert not after[weights == 0].any()
    assert [unit for unit, weight in zip(quantise(after).tolist(), weights, strict=True) if weight] == quantise(
        before
    ).tolist()


def test_answers_and_scores_survive_storage():
    random = np.random.default_rng(4)
    model = neighbours.fit(random.normal(size=(30, 3)), [str(i % 3) for i in range(30)], np.ones(30), {})
    stored = from_files(model.to_files(), sha256=model.sha256)

    served, again = (neighbours.answer(one, np.array([0.1, 0.2, 0.3])) for one in (model, stored))

    assert json.loads(json.dumps([served.outputs, served.context])) == [again.outputs, again.context]
    assert (neighbours.attribute(model, served) == neighbours.attribute(stored, again)).all()


def test_validation_scores_are_the_mean_over_the_rows_and_find_the_flipped_labels():
    data = load_digits(n_class=3)
    features, labels = data.data[:200], [str(t) for t in data.target[:200]]
    flipped = np.random.default_rng(1).permutation(200)[:20]
    noisy = [str((int(label) + 1) % 3) if i in flipped else label for i, label in enumerate(labels)]
    model = neighbours.fit(features, noisy, np.ones(200), {"standardise": False})

    mean, error = neighbours.validation_scores(model, data.data[200:400], [str(t) for t in data.target[200:400]])

    assert len(set(np.argsort(mean)[:20]) & set(flipped)) >= 16
    assert (error >= 0).all()


@pytest.mark.parametrize("bad", [{"k": 0}, {"k": 2.5}, {"neighbours": 5}])
def test_settings_that_make_no_sense_are_refused(bad):
    with pytest.raises(ValueError):
        neighbours.fit(np.zeros((3, 1)), ["a", "b", "c"], np.ones(3), bad)
