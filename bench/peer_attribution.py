"""dattri and pyDVL on a fitted linear model: the scores of every question, and how long one call takes.

peer_attribution.py FOLDER    model.npz: X (n, d) with its constant, y, theta (K, d), questions (q, d), asked, l2. Writes
                              scores.npz, shape (q, n) by method, larger is more support; prints seconds and versions.
"""

import contextlib
import json
import statistics
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset

with contextlib.redirect_stdout(sys.stderr):
    from dattri.algorithm.influence_function import IFAttributorExplicit
    from dattri.algorithm.trak import TRAKAttributor
    from dattri.task import AttributionTask
    from pydvl.influence import InfluenceMode
    from pydvl.influence.torch import DirectInfluence

TIMES = 5
PROJECTED = 512

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)
folder = Path(sys.argv[1])
told = np.load(folder / "model.npz")
X, y, questions, asked = (torch.tensor(told[name]) for name in ("X", "y", "questions", "asked"))
l2, rows = float(told["l2"]), len(X)
model = torch.nn.Linear(X.shape[1], len(told["theta"]), bias=False)
model.load_state_dict({"weight": torch.tensor(told["theta"])})


def loss_of(params, pair):
    inputs, labels = pair
    logits = torch.func.functional_call(model, params, inputs)
    return torch.nn.functional.cross_entropy(logits, labels, reduction="sum")


def one(pair):
    return pair[0].unsqueeze(0), pair[1].unsqueeze(0)


def margin_of(params, pair):
    inputs, labels = one(pair)
    logits = torch.func.functional_call(model, params, inputs)
    p = torch.exp(-torch.nn.functional.cross_entropy(logits, labels))
    return torch.log(p) - torch.log1p(-p)


def probability_of(params, pair):
    inputs, labels = one(pair)
    logits = torch.func.functional_call(model, params, inputs)
    return torch.exp(-torch.nn.functional.cross_entropy(logits, labels))


def batches(inputs, labels) -> DataLoader:
    return DataLoader(TensorDataset(inputs, labels), batch_size=len(inputs), shuffle=False)


def task(target=None) -> AttributionTask:
    return AttributionTask(loss_func=loss_of, model=model, checkpoints=model.state_dict(), target_func=target)


def influence_of(inputs, labels):
    """dattri: exact influence, the inverse of the whole Hessian. Its sign is of the loss."""
    attributor = IFAttributorExplicit(task(), regularization=l2)
    attributor.cache(batches(X, y))
    return attributor.attribute(batches(X, y), batches(inputs, labels)).T.detach().numpy()


def trak_of(inputs, labels):
    attributor = TRAKAttributor(
        task(margin_of),
        correct_probability_func=probability_of,
        projector_kwargs={"proj_dim": PROJECTED, "proj_max_batch_size": 32, "proj_seed": 0, "device": "cpu"},
        regularization=1e-6,
    )
    attributor.cache(batches(X, y))
    return attributor.attribute(batches(inputs, labels)).T.detach().numpy()


direct = DirectInfluence(model, torch.nn.functional.cross_entropy, regularization=l2 / rows)
start = time.perf_counter()
direct = direct.fit(batches(X, y))
fitted_s = time.perf_counter() - start


def pydvl_of(inputs, labels):
    return direct.influences(inputs, labels, X, y, mode=InfluenceMode.Up).detach().numpy()


METHODS = {"dattri, exact influence": influence_of, "dattri, TRAK": trak_of, "pyDVL, exact influence": pydvl_of}
scores, seconds, failed = {}, {}, {}
for name, method in METHODS.items():
    try:
        with contextlib.redirect_stdout(sys.stderr):
            scores[name] = method(questions, asked)
            taken = []
            for i in range(TIMES):
                start = time.perf_counter()
                method(questions[i : i + 1], asked[i : i + 1])
                taken.append(time.perf_counter() - start)
    except Exception as error:  # a peer that cannot is told so, in the table
        failed[name] = f"{type(error).__name__}: {error}"[:200]
    else:
        seconds[name] = statistics.median(taken)
np.savez(folder / "scores.npz", **scores)
versions = {name: metadata.version(name) for name in ("dattri", "pyDVL", "torch")}
print(json.dumps({"seconds": seconds, "fitted_s": fitted_s, "failed": failed, "versions": versions}))
