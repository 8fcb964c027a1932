"""How well and how fast calls are attributed, against really training again.

Needs the development packages; `agreement` also makes an environment with dattri, pyDVL and PyTorch (bench/peers.py).

    .venv/bin/python bench/attribution.py            all figures, some minutes on one core
    .venv/bin/python bench/attribution.py speed      one of: agreement, votes, audit, noise, copies, speed, large

Tasks are real and at hand: scikit-learn's digits and tumours, and texts: the docstrings of installed packages, whose
class is the package, as TF-IDF and as embeddings of 64 dimensions made of it.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from attribution import netting, shares
from attribution.engines import audit as audits
from attribution.engines import gated, linear, neighbours, penalty
from attribution.engines.design import one_blas_thread
from attribution.roster import Roster
from attribution.scorecards import copies as duplicates
from attribution.scorecards import noise as planted
from attribution.scorecards.agreement import linear_datamodeling_score
from bench import peers, report

PACKAGES = ("numpy", "scipy", "sklearn", "django")
HALVES = 100
ASKED = 40
CONTRIBUTORS = 200
RECORDS_KEPT = 20
CHOSEN = None  # the penalty a user gets who names none
PENALTIES = (CHOSEN, 1.0, 10.0)


def digits(rows: int = 1000) -> tuple[np.ndarray, list[str]]:
    data = load_digits()
    return data.data[:rows] / 16.0, [str(label) for label in data.target[:rows]]


def tumours() -> tuple[np.ndarray, list[str]]:
    data = load_breast_cancer()
    spread = (data.data - data.data.mean(0)) / data.data.std(0)
    return spread, [str(label) for label in data.target]


def texts(dimensions: int | None = None, *, count: int = 1000) -> tuple[np.ndarray, list[str]]:
    """Docstrings, so many at most, as TF-IDF of 400 words, or as embeddings. In an order that mixes the packages."""
    found = sorted({(doc, package) for package in PACKAGES for doc in docstrings(package)})
    picked = np.random.default_rng(0).permutation(len(found))[:count]
    words = TfidfVectorizer(max_features=400 if dimensions is None else 4000, sublinear_tf=True)
    matrix = words.fit_transform([found[i][0] for i in picked])
    if dimensions is not None:
        return TruncatedSVD(dimensions, random_state=0).fit_transform(matrix), [found[i][1] for i in picked]
    return matrix.toarray(), [found[i][1] for i in picked]


def docstrings(package: str) -> Iterator[str]:
    root = importlib.import_module(package)
    for module in pkgutil.iter_modules(root.__path__, f"{package}."):
        if any(part.startswith("_") or part in ("tests", "conftest", "f2py") for part in module.name.split(".")[1:]):
            continue
        try:
            members = vars(importlib.import_module(module.name)).values()
        except Exception:
            continue  # some modules of Django need a configured site
        for member in members:
            doc = getattr(member, "__doc__", None)
            if isinstance(doc, str) and len(doc) > 80 and callable(member):
                yield doc


TASKS: dict[str, Callable[[], tuple[np.ndarray, list[str]]]] = {
    "digits": digits,
    "TF-IDF text": texts,
    "embeddings": lambda: texts(64),
    "tumours": tumours,
}


def fitted(task: str, *, l2: float | None = CHOSEN):
    """A model on all rows but the last ones, and questions that are those, answered by itself."""
    features, labels = TASKS[task]()
    rows = len(features) - ASKED
    model = trained(features[:rows], labels[:rows], l2=l2)
    asked = [linear.answer(model, row).outputs["label"] for row in features[rows:]]
    return model, features[rows:], asked


def trained(features: np.ndarray, labels: list[str], *, l2: float | None):
    """As a training run does it: five folds choose the penalty when none is named."""
    weights, settings = np.ones(len(features)), {"task": "classification", "standardise": False}
    if l2 is CHOSEN:
        folds = np.random.default_rng(0).integers(0, 5, len(features))
        l2 = penalty.choose_l2(features, labels, weights, folds, settings)
    return linear.fit(features, labels, weights, {**settings, "l2": l2})


def agreement() -> None:
    """Against really training on random halves: ours, and dattri and pyDVL on the same fitted model, in one run."""
    for task in ("embeddings", "digits", "tumours", "TF-IDF text"):
        model, questions, asked = fitted(task)
        rows = model.settings["records"]
        random = np.random.default_rng(0)
        masks = np.array([random.permutation(rows) < rows // 2 for _ in range(HALVES)])
        real = [linear.outputs_of(model, questions, asked, theta=linear.retrain(model, mask)) for mask in masks]
        scores = {"ours, midpoint influence": linear.midpoint_scores(model, questions, asked)}
        others, told = _of_peers(model, questions, asked)
        what = f"{task}, n = {rows}, {named(CHOSEN, model)}"
        for name, one in (scores | others).items():
            median, error = _rank_correlation(one, masks, np.array(real))
            floor = ">= .965" if name.startswith("ours") and task != "tumours" else "-"
            show(
                f"LDS over {HALVES} random halves, {what}: {name}: median, standard error",
                f"{median:.4f}, {error:.4f}",
                floor,
            )
        for name, why in told["failed"].items():
            show(f"LDS, {what}: {name}", f"could not: {why}", "-")
        seconds = {"ours, midpoint influence": _seconds_of_a_call(model, questions)} | told["seconds"]
        for name, taken in seconds.items():
            show(f"scores of one call, {what}: {name}: median", f"{taken * 1000:.2f} ms", "-")


def _of_peers(model, questions: np.ndarray, asked: list[str]) -> tuple[dict[str, np.ndarray], dict]:
    """Scores of dattri and pyDVL in their own environment. Some speak of a loss: the sign that agrees with ours is taken."""
    x, served = linear.queries(model, questions, asked)
    with tempfile.TemporaryDirectory() as folder:
        arrays = {"X": model.arrays["X"], "y": model.arrays["targets"], "theta": model.arrays["theta"]}
        np.savez(Path(folder, "model.npz"), **arrays, questions=x, asked=served, l2=model.settings["l2"])
        told = json.loads(peers.run("peer_attribution.py", folder, name="attribution").splitlines()[-1])
        with np.load(Path(folder, "scores.npz")) as found:
            scores = {name: found[name] for name in found.files}
    ours = linear.midpoint_scores(model, questions, asked)
    return {name: one * np.sign((one * ours).sum()) for name, one in scores.items()}, told


def _rank_correlation(scores: np.ndarray, masks: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """Median over questions of the rank correlation of predicted and real outputs, and the standard error of their mean."""
    each = [linear_datamodeling_score(scores[i : i + 1], masks, real[:, i : i + 1]).value for i in range(len(scores))]
    return statistics.median(each), statistics.stdev(each) / len(each) ** 0.5


def _seconds_of_a_call(model, questions: np.ndarray) -> float:
    taken = []
    for row in questions:
        answer = linear.answer(model, row)
        start = time.perf_counter()
        linear.attribute(model, answer)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def votes() -> None:
    """Shapley values of the vote against the vote of models that hold a random half of the records."""
    for task in ("digits", "TF-IDF text", "embeddings"):
        features, labels = TASKS[task]()
        rows = len(features) - ASKED
        model = neighbours.fit(features[:rows], labels[:rows], np.ones(rows), {"standardise": False})
        random = np.random.default_rng(0)
        masks = np.array([random.permutation(rows) < rows // 2 for _ in range(HALVES)])
        answers = [neighbours.answer(model, row) for row in features[rows:]]
        scores = np.array([neighbours.attribute(model, one) for one in answers])
        asked = [one.outputs["label"] for one in answers]
        halves = [
            neighbours.fit(features[:rows], labels[:rows], mask.astype(float), {"standardise": False}) for mask in masks
        ]
        real = np.array(
            [
                [
                    neighbours.answer(half, row).outputs["probabilities"].get(label, 0.0)
                    for row, label in zip(features[rows:], asked, strict=True)
                ]
                for half in halves
            ]
        )
        moved = real.std(0) > 0  # a vote that no half changes has no ranks
        median, error = _rank_correlation(scores[moved], masks, real[:, moved])
        what = f"LDS over {HALVES} random halves, neighbours, {task}, n = {rows}, {int(moved.sum())} of {ASKED} votes that move"
        show(f"{what}: median, standard error", f"{median:.4f}, {error:.4f}", "none set")


def audit() -> None:
    for task in ("digits", "tumours"):
        for l2 in PENALTIES:
            model, questions, asked = fitted(task, l2=l2)
            rows = model.settings["records"]
            full = linear.outputs_of(model, questions, asked)
            chosen = np.random.default_rng(0).permutation(rows)[:100]
            kept = [np.arange(rows) != i for i in chosen]
            retrained = [linear.outputs_of(model, questions, asked, theta=linear.retrain(model, mask)) for mask in kept]
            real = np.array([full - outputs for outputs in retrained]).T
            start = time.perf_counter()
            told = audits.leave_one_out(model, questions, asked)[:, chosen]
            taken = time.perf_counter() - start
            pearson = np.corrcoef(told.ravel(), real.ravel())[0, 1]
            error = np.linalg.norm(told - real) / np.linalg.norm(real)
            what = f"leave-one-out of {len(chosen)} records, {task}, {named(l2, model)}"
            show(f"{what}: Pearson", f"{pearson:.5f}", ">= .997")
            show(f"{what}: error", f"{error:.2%}", "<= .60%")
            show(f"{what}: all {rows} take", f"{taken:.2f} s", "about 1 s")


def noise() -> None:
    """How well held-out rows find wrong labels, by the mean influence alone and by it over its error, as gating does."""
    features, labels = digits(1797)
    rows = 1200
    for l2 in PENALTIES:
        found: dict[str, list[float]] = {"mean / error": [], "mean": []}
        caught, wronged, used = [], [], set()
        for seed in range(5):
            random = np.random.default_rng(seed)
            order = random.permutation(len(features))
            train, judges = order[:rows], order[rows:]
            noisy, wrong = planted.flipped([labels[i] for i in train], seed=seed)
            model = trained(features[train], noisy, l2=l2)
            used.add(named(l2, model))
            mean, error = linear.validation_scores(model, features[judges], [labels[i] for i in judges])
            found["mean / error"].append(planted.found(wrong, mean, error))
            found["mean"].append(planted.found(wrong, mean, np.ones(rows)))
            shut = gated(mean, error)
            caught.append(shut[wrong].mean())
            wronged.append(shut[~wrong].mean())
        what = f"10 % wrong labels, digits, 5 seeds, {' and '.join(sorted(used))}"
        for score, figures in found.items():
            middle = statistics.mean(figures)
            show(f"{what}: AUC of {score}: least, mean", f"{min(figures):.4f}, {middle:.4f}", ">= .99")
        show(f"{what}: gated of wrong, of honest", f"{np.mean(caught):.1%}, {np.mean(wronged):.1%}", "none set")


def named(l2: float | None, model) -> str:
    return f"l2 = {model.settings['l2']:g}{' (chosen)' if l2 is CHOSEN else ''}"


def copies() -> None:
    features, labels = digits(400)
    questions = digits(440)[0][400:]

    def fit(numbers: np.ndarray):
        weights = (np.arange(len(numbers)) < 400).astype(float)
        return linear.fit(features[numbers], [labels[i] for i in numbers], weights, {"standardise": False})

    def answers(model):
        return [linear.answer(model, row) for row in questions]

    gain, changed = duplicates.gain(linear, fit, answers, rows=400, copied=np.arange(20))
    show("pay of who copies their own or others' records, after / before", f"{gain:.6f}", "1.000 exactly")
    show("records whose pay the copies changed", str(changed), "0")


def speed() -> None:
    """A call's scores; then with its integer lines: an amount per record, a line per payee, the 20 largest records."""
    random = np.random.default_rng(0)
    for rows, floor in ((2_000, "<= 1 ms"), (100_000, "<= 20 ms")):
        features = random.normal(size=(rows, 64))
        labels = [str(c) for c in (features[:, :3] + random.normal(size=(rows, 3))).argmax(1)]
        model = linear.fit(features, labels, np.ones(rows), {"standardise": False})
        roster = Roster.of(range(rows), [f"{i:08x}" for i in random.permutation(rows)])
        contributors = netting.Payees(random.integers(1, 1 + CONTRIBUTORS, size=rows))
        phi, is_gated = np.full(rows, shares.BILLION), np.zeros(rows, dtype=bool)
        scored, whole = [], []
        for row in random.normal(size=(200, 64)):
            answer = linear.answer(model, row)
            start = time.perf_counter()
            linear.attribute(model, answer)
            scored.append(time.perf_counter() - start)
            start = time.perf_counter()
            call = duplicates.call_of(0, linear.attribute(model, answer), roster)
            paid = netting.amounts_of(call, phi, is_gated)
            lines = contributors.sums(call.places, paid.amounts)
            contributors.counts(call.places[paid.amounts > 0])
            netting.largest(paid.amounts, roster.record_ids[call.places], RECORDS_KEPT)
            whole.append(time.perf_counter() - start)
            assert sum(lines.values()) + paid.left_nano == duplicates.CALL_NANO
        for name, taken in (("scores", scored), ("scores and integer lines", whole)):
            p50, p95 = np.percentile(taken, [50, 95]) * 1000
            show(f"{name} of a call, n = {rows}: p50, p95", f"{p50:.2f}, {p95:.2f} ms", floor)


def large() -> None:
    """What a stored inverse costs and saves, against conjugate gradients: docs/adr/0009-conjugate-gradients.md."""
    rows, classes = 2000, 10
    for parameters in (1000, 2000, 4000, 6000, 8000):
        random = np.random.default_rng(0)
        columns = parameters // classes - 1
        features = random.normal(size=(rows, columns))
        margins = features @ random.normal(size=(columns, classes)) * 2 / np.sqrt(columns)
        labels = [str(c) for c in (margins + random.gumbel(size=(rows, classes))).argmax(1)]
        questions, scores = random.normal(size=(4, columns)), []
        for name, exact_max in (("inverse", 10**9), ("conjugate gradients", 0)):
            start = time.perf_counter()
            settings = {"standardise": False, "l2": 3.0, "exact_parameters_max": exact_max}
            model = linear.fit(features, labels, np.ones(rows), settings)
            fitting, taken = time.perf_counter() - start, []
            for row in questions:
                answer = linear.answer(model, row)
                start = time.perf_counter()
                scores.append(shares.quantise(linear.attribute(model, answer)))
                taken.append(time.perf_counter() - start)
            size = sum(array.nbytes for array in model.arrays.values()) / 1e6
            figure = f"{fitting:.1f} s, {statistics.median(taken) * 1000:.1f} ms, {size:.0f} MB"
            show(f"P = {parameters}, n = {rows}, {name}: fit, scores of a call, artifact", figure, "none set")
        apart = max(int(np.abs(one - other).max()) for one, other in zip(scores[:4], scores[4:], strict=True))
        show(f"P = {parameters}: largest difference of a quantised score", str(apart), "<= 1")


SHOWN: list[tuple[str, str, str]] = []


def show(what: str, figure: str, floor: str) -> None:
    SHOWN.append((what, figure, floor))
    print(f"{what:<98} {figure:>18}   floor {floor}", flush=True)


PARTS = {
    "agreement": agreement,
    "votes": votes,
    "audit": audit,
    "noise": noise,
    "copies": copies,
    "speed": speed,
    "large": large,
}

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    with one_blas_thread():
        for name in sys.argv[1:] or PARTS:
            SHOWN.clear()
            PARTS[name]()
            report.write(f"Attribution: {name}", SHOWN, versions=("numpy", "scipy", "scikit-learn"))
