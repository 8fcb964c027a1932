"""The linear engine against really retraining, closed forms and other implementations."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_auc_score

from attribution.engines import ENGINES, gated, linear
from attribution.engines.answers import pack_vector, unpack_vector
from attribution.engines.artifact import Artifact, from_files
from attribution.engines.audit import leave_one_out
from attribution.engines.objective import Objective
from attribution.engines.penalty import GRID, choose_l2
from attribution.scorecards.agreement import linear_datamodeling_score
from attribution.shares import quantise


@pytest.fixture(scope="module")
def tumours():
    data = load_breast_cancer()
    labels = [str(data.target_names[t]) for t in data.target]
    return data.data[:200], labels[:200], data.data[200:400], labels[200:400]


@pytest.fixture(scope="module")
def tumour_model(tumours):
    features, labels, _, _ = tumours
    return linear.fit(features, labels, np.ones(len(features)), {"task": "classification", "l2": 1.0})


@pytest.fixture(scope="module")
def digits():
    data = load_digits(n_class=5)
    return data.data / 16.0, [str(t) for t in data.target]


def made_up(rows=40, columns=3, classes=3, seed=0):
    """A small problem whose classes overlap, so that every record has some influence."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(rows, columns))
    labels = [str(c) for c in (features[:, 0] + random.normal(size=rows)).argsort().argsort() * classes // rows]
    return features, labels


# --- The fit


def test_the_fit_is_the_minimum_that_scikit_learn_finds(tumours, tumour_model):
    features, labels, questions, _ = tumours
    a = tumour_model.arrays
    other = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000, fit_intercept=False)
    design = np.column_stack([(features - a["mean"]) / a["scale"], np.ones(len(features))])
    # Two softmax rows with penalty l2 are one logistic row with half of it, because they share it equally.
    other.set_params(C=2.0)
    other.fit(design, labels)
    expected = other.predict_proba(np.column_stack([(questions - a["mean"]) / a["scale"], np.ones(len(questions))]))

    got = [linear.answer(tumour_model, row).outputs["probabilities"] for row in questions]

    assert np.abs(np.array([[p["benign"], p["malignant"]] for p in got]) - expected).max() < 1e-6


def test_ridge_is_what_scikit_learn_computes():
    data = load_diabetes()
    model = linear.fit(data.data, data.target, np.ones(442), {"task": "regression", "l2": 3.0})
    a = model.arrays
    other = Ridge(alpha=3.0, solver="cholesky").fit((data.data - a["mean"]) / a["scale"], data.target)

    values = [linear.answer(model, row).outputs["value"] for row in data.data[:50]]

    assert np.allclose(values, other.predict(((data.data - a["mean"]) / a["scale"])[:50]), rtol=0, atol=1e-8)


def test_the_gradient_at_the_fit_is_zero_at_full_and_at_half_weights(tumour_model):
    a = tumour_model.arrays
    problem = Objective(a["X"], a["targets"], tumour_model.settings)
    for theta, w in ((a["theta"], a["weights"]), (a["theta_half"], 0.5 * a["weights"])):
        gradient = (problem.residuals(theta) * w[:, None]).T @ a["X"] + problem.penalty * theta
        assert np.abs(gradient).max() < 1e-9


def test_the_same_inputs_give_the_same_hash(tumours, tumour_model):
    features, labels, _, _ = tumours

    again = linear.fit(features, labels, np.ones(len(features)), {"task": "classification", "l2": 1.0})

    assert again.sha256 == tumour_model.sha256


def test_answers_and_scores_survive_storage(tumours, tumour_model):
    _, _, questions, _ = tumours
    stored = from_files(tumour_model.to_files())
    served = linear.answer(tumour_model, questions[0])
    kept = json.loads(json.dumps({"outputs": served.outputs, "context": served.context}))

    again = linear.answer(stored, questions[0])

    assert again.outputs == kept["outputs"]
    assert again.context == kept["context"]
    assert (linear.attribute(stored, again) == linear.attribute(tumour_model, served)).all()


def test_the_context_of_an_answer_fits_into_three_kilobytes():
    random = np.random.default_rng(5)
    embedding = random.normal(size=384).astype(np.float32).astype(np.float64)
    pixels = random.integers(0, 256, size=2000) / 255.0

    for vector in (random.normal(size=260), embedding, pixels):
        assert len(json.dumps({"features": pack_vector(vector), "served": 9})) <= 3000


@example([-0.0])
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20))
def test_a_packed_vector_comes_back_bit_by_bit(values):
    vector = np.array(values, dtype=np.float64)

    assert unpack_vector(pack_vector(vector)).tobytes() == vector.tobytes()


# --- Attribution against retraining


def test_leave_one_out_of_ridge_is_exactly_what_retraining_shows():
    random = np.random.default_rng(1)
    features, targets = random.normal(size=(30, 4)), random.normal(size=30) * 50 + 1000
    model = linear.fit(features, targets, np.ones(30), {"task": "regression", "l2": 0.7})
    questions = random.normal(size=(5, 4))

    audit = leave_one_out(model, questions)

    full = linear.outputs_of(model, questions)
    for i in range(30):
        without = linear.outputs_of(model, questions, theta=linear.retrain(model, np.arange(30) != i))
        assert np.allclose(audit[:, i], full - without, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("l2", "error_max", "audit_min", "midpoint_min"), [(10.0, 0.005, 0.9999, 0.95), (1.0, 0.08, 0.998, 0.85)]
)
def test_the_leave_one_out_audit_follows_real_retraining(tumours, l2, error_max, audit_min, midpoint_min):
    features, labels, questions, truths = tumours
    asked = questions[:20], truths[:20]
    model = linear.fit(features, labels, np.ones(200), {"l2": l2})
    full = linear.outputs_of(model, *asked)
    retrained = [linear.retrain(model, np.arange(200) != i) for i in range(200)]
    real = np.array([full - linear.outputs_of(model, *asked, theta=theta) for theta in retrained]).T

    audit = leave_one_out(model, *asked)

    assert np.corrcoef(audit.ravel(), real.ravel())[0, 1] > audit_min
    assert np.linalg.norm(audit - real) < error_max * np.linalg.norm(real)
    # The midpoint score asks about random halves, yet has to agree on who matters for single records, too.
    midpoint = linear.midpoint_scores(model, *asked)
    assert np.corrcoef(midpoint.ravel(), real.ravel())[0, 1] > midpoint_min


def test_the_leave_one_out_audit_of_many_classes_is_within_half_a_per_cent_of_real_retraining(digits):
    # Given a model of five digits with the weakest penalty that is ever chosen, some records counted twice
    features, labels = digits[0][:200], digits[1][:200]
    weights = np.ones(200)
    weights[::7], weights[5] = 2.0, 0.0
    model = linear.fit(features, labels, weights, {"standardise": False, "l2": 1.0})
    asked = digits[0][200:210], digits[1][200:210]

    # When every eighth record is really left out
    left_out = np.arange(0, 200, 8)
    full = linear.outputs_of(model, *asked)
    kept = [np.arange(200) != i for i in left_out]
    real = np.array([full - linear.outputs_of(model, *asked, theta=linear.retrain(model, mask)) for mask in kept]).T

    # Then the audit knew, and it says nothing of a follower
    audit = leave_one_out(model, *asked)
    assert np.linalg.norm(audit[:, left_out] - real) < 0.005 * np.linalg.norm(real)
    assert not audit[:, 5].any()


def test_scores_predict_the_outputs_of_models_retrained_on_random_halves(digits):
    # Given a digits model and 20 questions to it, answered by itself
    features, labels = digits
    rows, questions = np.arange(400), np.arange(500, 520)
    model = linear.fit(features[rows], [labels[i] for i in rows], np.ones(400), {"standardise": False, "l2": 1.0})
    served = [linear.answer(model, features[i]) for i in questions]
    asked = [answer.outputs["label"] for answer in served]
    scores = np.array([linear.attribute(model, answer) for answer in served])

    # When it is really trained again on 32 random halves
    random = np.random.default_rng(0)
    masks = np.array([random.permutation(400) < 200 for _ in range(32)])
    real = np.array(
        [linear.outputs_of(model, features[questions], asked, theta=linear.retrain(model, mask)) for mask in masks]
    )

    # Then the sums of scores rank those 32 models nearly as they came out
    assert linear_datamodeling_score(scores, masks, real).value > 0.95
    # and better than influence at full weights does
    full = exact_influence(model, features[questions], asked)
    assert linear_datamodeling_score(scores, masks, real).value > linear_datamodeling_score(full, masks, real).value


def exact_influence(model, questions, asked):
    """The usual influence function, at full weights, through the audit's own route: only in this test."""
    a = model.arrays
    problem = Objective(a["X"], a["targets"], model.settings)
    x, served = linear.queries(model, questions, asked)
    full = Artifact(model.engine, model.settings, {**a, "theta_half": a["theta"]})
    right = linear._output_gradients(full, x, served)[:, :, None] * x[:, None, :]
    moved = problem.solve_hessian(a["theta"], a["weights"], right)
    return -np.einsum("qkd,nd,nk->qn", moved, a["X"], problem.residuals(a["theta"]))


def test_one_score_is_the_derivative_of_the_margin_by_the_weight_of_its_record():
    features, labels = made_up()
    model = linear.fit(features, labels, np.ones(40), {"l2": 0.5})
    answer = linear.answer(model, np.array([0.3, -1.0, 2.0]))
    scores = linear.attribute(model, answer)
    step = 1e-4
    for i in range(0, 40, 7):
        up, down = np.full(40, 0.5), np.full(40, 0.5)
        up[i] += step
        down[i] -= step
        asked = ([[0.3, -1.0, 2.0]], [answer.outputs["label"]])
        slope = (
            linear.outputs_of(model, *asked, theta=linear.retrain(model, up))
            - linear.outputs_of(model, *asked, theta=linear.retrain(model, down))
        ) / (2 * step)
        assert slope[0] == pytest.approx(scores[i], rel=1e-4, abs=1e-7)


def test_many_questions_at_once_get_the_scores_they_get_one_by_one(tumours, tumour_model):
    _, _, questions, _ = tumours
    served = [linear.answer(tumour_model, row) for row in questions[:10]]

    together = linear.midpoint_scores(tumour_model, questions[:10], [one.outputs["label"] for one in served])

    alone = np.array([linear.attribute(tumour_model, one) for one in served])
    assert np.allclose(together, alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_conjugate_gradients_give_the_scores_of_the_stored_inverse(task):
    features, labels = made_up()
    exact = linear.fit(features, labels, np.ones(40), {"task": task})
    lean = linear.fit(features, labels, np.ones(40), {"task": task, "exact_parameters_max": 1})

    assert "inverse_half" not in lean.arrays
    for row in features[:5]:
        one = linear.attribute(exact, linear.answer(exact, row))
        other = linear.attribute(lean, linear.answer(lean, row))
        assert np.allclose(one, other, rtol=1e-7, atol=1e-9)


def test_a_model_without_a_stored_inverse_pays_as_one_with_it_and_the_same_twice():
    features, labels = made_up()
    exact = linear.fit(features, labels, np.ones(40), {})
    lean, again = (linear.fit(features, labels, np.ones(40), {"exact_parameters_max": 1}) for _ in range(2))

    assert lean.sha256 == again.sha256
    for row in features[:10]:
        scores = [quantise(linear.attribute(model, linear.answer(model, row))) for model in (exact, lean, again)]
        assert np.abs(scores[0] - scores[1]).max() <= 1
        assert (scores[1] == scores[2]).all()


def test_above_ten_thousand_parameters_no_inverse_is_stored():
    random = np.random.default_rng(0)
    labels = [str(i % 4) for i in range(24)]
    for columns, is_exact in ((20, True), (2500, False)):  # and the constant: 84 and 10,004 parameters
        features = random.normal(size=(24, columns))
        model = linear.fit(features, labels, np.ones(24), {"l2": 30.0})
        scores = quantise(linear.attribute(model, linear.answer(model, features[0])))
        assert ("inverse_half" in model.arrays, bool(scores.any())) == (is_exact, True)


def test_without_a_stored_inverse_the_first_forty_judge():
    features, labels = made_up()
    many, answers = np.tile(features, (3, 1)), list(labels) * 3
    exact = linear.fit(features, labels, np.ones(40), {})
    lean = linear.fit(features, labels, np.ones(40), {"exact_parameters_max": 1})
    judges = linear.JUDGES_MAX_WITHOUT_INVERSE

    found = linear.validation_scores(lean, many, answers)

    for one, other in zip(found, linear.validation_scores(exact, many[:judges], answers[:judges]), strict=True):
        assert np.allclose(one, other, rtol=1e-7, atol=1e-9)


# --- Replay


REPLAY = """
import json, sys
from pathlib import Path
from attribution.engines import Answer, from_files, linear
from attribution.shares import quantise
folder = Path(sys.argv[1])
model = from_files({name: (folder / name).read_bytes() for name in ("artifact.json", "arrays.safetensors")})
contexts = json.loads((folder / "contexts.json").read_text())
print(json.dumps([quantise(linear.attribute(model, Answer({}, context))).tolist() for context in contexts]))
"""


def test_a_replay_on_other_threads_and_another_processor_agrees_within_one_unit(tmp_path, digits):
    # Given a stored model and the traces of 50 calls, attributed here
    features, labels = digits
    model = linear.fit(features[:300], labels[:300], np.ones(300), {"standardise": False})
    served = [linear.answer(model, row) for row in features[300:350]]
    here = np.array([quantise(linear.attribute(model, one)) for one in served])
    for name, content in model.to_files().items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "contexts.json").write_text(json.dumps([one.context for one in served]))

    # When they are replayed with two threads and the code paths of an older processor (ignored where there is none)
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", "OPENBLAS_CORETYPE": "Nehalem"}
    root = Path(__file__).resolve().parents[2]
    replay = subprocess.run(
        [sys.executable, "-c", REPLAY, str(tmp_path)], cwd=root, env=environment, capture_output=True, check=True
    )

    assert np.abs(np.array(json.loads(replay.stdout)) - here).max() <= 1


# --- Copies


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 39)), min_size=1, max_size=30), st.booleans())
def test_copies_with_weight_zero_change_no_bit_of_anybodys_score(copies, regression):
    # Given a model, and one whose version also holds copies of its records, anywhere in between
    features, labels = made_up()
    task = {"task": "regression" if regression else "classification"}
    places = sorted([(float(i), i, 1.0) for i in range(40)] + [(at - 0.5, of, 0.0) for at, of in copies])
    order = [of for _, of, _ in places]
    weights = np.array([weight for _, _, weight in places])
    alone = linear.fit(features, labels, np.ones(40), task)
    crowded = linear.fit(features[order], [labels[i] for i in order], weights, task)

    # When both answer the same question
    question = features[7] * 0.9
    one, two = linear.answer(alone, question), linear.answer(crowded, question)

    # Then answer and scores are equal, bit by bit, and the copies have exactly 0
    assert one == two
    before, after = linear.attribute(alone, one), linear.attribute(crowded, two)
    assert after[weights > 0].tobytes() == before.tobytes()
    assert not after[weights == 0].any()
    assert [unit for unit, weight in zip(quantise(after).tolist(), weights, strict=True) if weight] == quantise(
        before
    ).tolist()


# --- Validation


def test_validation_scores_find_the_flipped_labels_and_gate_few_honest_records(tumours):
    features, labels, held_out, truths = tumours
    other = {"benign": "malignant", "malignant": "benign"}
    found, caught, wronged = [], [], []
    for seed in range(3):
        # Given 200 tumours, 20 of them with the wrong label
        wrong = np.isin(np.arange(200), np.random.default_rng(seed).permutation(200)[:20])
        noisy = [other[label] if flip else label for label, flip in zip(labels, wrong, strict=True)]
        model = linear.fit(features, noisy, np.ones(200), {"l2": 10.0})

        # When they are judged on 200 other tumours
        mean, error = linear.validation_scores(model, held_out, truths)

        shut = gated(mean, error)
        found.append(roc_auc_score(wrong, -mean))
        caught.append(shut[wrong].mean())
        wronged.append(shut[~wrong].mean())

    # Then the flipped ones stand last and most of them are gated, and hardly any of the honest ones
    assert np.mean(found) > 0.9
    assert np.mean(caught) > 0.75
    assert np.mean(wronged) < 0.07


def test_validation_scores_are_the_mean_and_its_error_over_the_rows(tumours, tumour_model):
    _, _, held_out, truths = tumours
    scores = linear.midpoint_scores(tumour_model, held_out, truths)

    mean, error = linear.validation_scores(tumour_model, held_out, truths)

    assert np.allclose(mean, scores.mean(0), rtol=1e-9, atol=1e-12)
    assert np.allclose(error, scores.std(0, ddof=1) / np.sqrt(len(held_out)), rtol=1e-6, atol=1e-10)


def test_validation_scores_of_a_regression_are_the_slope_of_the_held_out_loss():
    random = np.random.default_rng(2)
    features, questions = random.normal(size=(30, 3)), random.normal(size=(12, 3))
    targets, truths = features @ [3, -2, 1] + random.normal(size=30), questions @ [3, -2, 1]
    model = linear.fit(features, targets, np.ones(30), {"task": "regression"})

    mean, _ = linear.validation_scores(model, questions, truths)

    def held_out_gain(weights):
        values = linear.outputs_of(model, questions, theta=linear.retrain(model, weights))
        return -0.5 * ((values - truths) ** 2).mean()

    for i in range(0, 30, 6):
        up, down = np.full(30, 0.5), np.full(30, 0.5)
        up[i] += 1e-4
        down[i] -= 1e-4
        assert (held_out_gain(up) - held_out_gain(down)) / 2e-4 == pytest.approx(mean[i], rel=1e-4, abs=1e-7)


def test_validation_rows_of_a_class_the_model_does_not_know_are_left_out(tumours, tumour_model):
    _, _, held_out, truths = tumours

    with_stranger = linear.validation_scores(tumour_model, held_out[:31], [*truths[:30], "cyst"])

    assert np.allclose(with_stranger, linear.validation_scores(tumour_model, held_out[:30], truths[:30]))


# --- The penalty that is chosen where none is named


def folds_of(rows):
    return np.random.default_rng(0).integers(0, 5, rows)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_chosen_penalty_is_the_strongest_within_one_standard_error_of_the_best(task):
    # Given records whose held-out losses are computed here the long way: exact fits, one by one
    features, labels = made_up(rows=120)
    targets = labels if task == "classification" else [3.0 * row[0] + row[1] for row in features]
    folds = folds_of(120)
    losses = {l2: [] for l2 in GRID}
    for l2, i in ((l2, i) for l2 in GRID for i in range(5)):
        model = linear.fit(features, targets, folds != i, {"task": task, "l2": l2})
        for row, target in zip(features[folds == i], np.array(targets)[folds == i], strict=True):
            outputs = linear.answer(model, row).outputs
            missed = (
                -np.log(outputs["probabilities"][target]) if "label" in outputs else (outputs["value"] - target) ** 2
            )
            losses[l2].append(missed)
    best = min(losses.values(), key=np.mean)
    enough = np.mean(best) + np.std(best, ddof=1) / np.sqrt(120)
    expected = max(l2 for l2 in GRID if np.mean(losses[l2]) <= enough)

    chosen = choose_l2(features, targets, np.ones(120), folds, {"task": task, "standardise": True})

    # Then the quick search, whose fits start from each other and end early, comes to the same
    assert chosen == expected
    assert GRID[-1] < chosen < GRID[0] or task == "regression"


def test_wrong_labels_ask_for_a_stronger_penalty_and_copies_for_the_same(digits):
    features, labels = digits[0][:300], digits[1][:300]
    wrong = np.random.default_rng(0).permutation(300) < 60
    noisy = [str((int(label) + 1) % 5) if flip else label for label, flip in zip(labels, wrong, strict=True)]
    folds, options = folds_of(300), {"task": "classification", "standardise": False}
    clean = choose_l2(features, labels, np.ones(300), folds, options)
    stronger = choose_l2(features, noisy, np.ones(300), folds, options)
    # Followers with labels of their own, all in one fold
    crowded = np.vstack([features, features[:200]])
    weights = np.concatenate([np.ones(300), np.zeros(200)])

    copied = choose_l2(crowded, [*noisy, *labels[:200]], weights, np.concatenate([folds, np.zeros(200)]), options)

    assert copied == stronger > clean


def test_a_penalty_that_nobody_can_judge_is_the_default():
    features, labels = made_up(rows=6, classes=2)

    assert choose_l2(features, labels, np.ones(6), np.zeros(6), {"task": "classification", "standardise": True}) == 1.0
    # And a fold that alone holds a class is left out, instead of making the choice impossible
    labels = ["a"] * 3 + ["b"] * 3
    folds = np.array([0, 0, 0, 1, 1, 1])
    assert choose_l2(features, labels, np.ones(6), folds, {"task": "classification", "standardise": True}) == 1.0


# --- What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["a"] * 39}, "targets"),
        ({"labels": ["a"] * 40}, "two classes"),
        ({"weights": np.zeros(40)}, "above zero"),
        ({"weights": -np.ones(40)}, "negative"),
        ({"settings": {"l2": 0}}, "l2"),
        ({"settings": {"lambda": 1}}, "lambda"),
        ({"settings": {"task": "ranking"}}, "task"),
        ({"features": np.full((40, 3), np.nan)}, "finite"),
    ],
)
def test_a_training_that_makes_no_sense_is_refused(changes, message):
    features, labels = made_up()
    given_ = {"features": features, "labels": labels, "weights": np.ones(40), "settings": {}, **changes}

    with pytest.raises(ValueError, match=message):
        linear.fit(given_["features"], given_["labels"], given_["weights"], given_["settings"])


@pytest.mark.parametrize("question", [np.zeros(2), np.full(3, np.inf), np.zeros((1, 3))])
def test_a_question_of_the_wrong_shape_is_refused(question):
    features, labels = made_up()
    model = linear.fit(features, labels, np.ones(40), {})

    with pytest.raises(ValueError):
        linear.answer(model, question)


def test_every_engine_has_the_same_four_functions():
    for name, engine in ENGINES.items():
        assert name == engine.NAME
        for function in ("fit", "answer", "attribute", "validation_scores"):
            assert callable(getattr(engine, function))
