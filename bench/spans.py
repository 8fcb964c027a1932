"""How fast, how small and how complete the search of verbatim spans is: 25 million words, against infini-gram's engine.

    .venv/bin/python bench/spans.py            all figures, a minute on one core; infini-gram's in an environment of its own
    .venv/bin/python bench/spans.py alone      without infini-gram

The texts are made up: passages of the demo's licences between words of a made-up language of half a million, whose
frequencies fall with their rank. An answer has 200 words: five verbatim pieces of 25 from somewhere, each followed by 15
others. infini-gram gets the same words, with numbers of two bytes (its tool takes 32 GiB of memory for numbers of
four), so rare words share a number; it is asked for the spans of the answer and for all places of each, as OLMoTrace does.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from attribution.engines import spans
from attribution.engines.artifact import from_files
from bench import peers, report
from demo import files

WORDS = 25_000_000
DOCUMENT_WORDS = 500
VOCABULARY = 500_000
LICENCE_PART = 10  # every tenth document is a passage of a licence
ASKED = 200
PEER_NUMBERS = 2**16 - 2
FLOOR = "<= 2 ms; 1 ms"
SIZE_FLOOR = ">= 130 M; 179 M"


def documents() -> list[list[str]]:
    random = np.random.default_rng(0)
    frequencies = 1.0 / np.arange(1, VOCABULARY + 1)
    ranks = np.searchsorted(np.cumsum(frequencies / frequencies.sum()), random.random(WORDS))
    names = np.array([f"w{number}" for number in random.permutation(VOCABULARY)], dtype=object)
    licences = [spans.words_of(row["text"]) for part in ("first", "rest") for row in files.licences(part)]
    found = []
    for number, start in enumerate(range(0, WORDS, DOCUMENT_WORDS)):
        if number % LICENCE_PART:
            found.append(names[ranks[start : start + DOCUMENT_WORDS]].tolist())
        else:
            one = licences[random.integers(len(licences))]
            first = random.integers(max(len(one) - DOCUMENT_WORDS, 1))
            found.append(one[first : first + DOCUMENT_WORDS])
    return found


def answers(texts: list[list[str]]) -> tuple[list[list[str]], list[list[int]]]:
    """Answers, and from which documents their pieces are."""
    random = np.random.default_rng(1)
    found, planted = [], []
    for _ in range(ASKED):
        answer: list[str] = []
        sources = []
        for _ in range(5):
            source = int(random.integers(len(texts)))
            first = int(random.integers(max(len(texts[source]) - 25, 1)))
            answer += texts[source][first : first + 25]
            answer += [texts[i][0] for i in random.integers(len(texts), size=15)]
            sources.append(source)
        found.append(answer)
        planted.append(sources)
    return found, planted


def main(*, alone: bool) -> None:
    texts = documents()
    words = sum(map(len, texts))
    joined = [" ".join(text) for text in texts]
    started = time.perf_counter()
    artifact = spans.fit(joined, None, np.ones(len(joined)), {})
    made_s = time.perf_counter() - started
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    stored = from_files(artifact.to_files())
    size_bytes = sum(array.nbytes for array in stored.arrays.values())
    show(
        f"index of {words / 1e6:.1f} M words in {len(texts)} texts, words found and sorted",
        f"{made_s:.0f} s",
        "none set",
    )
    show("most memory meanwhile, the texts included", f"{peak_mib:.0f} MiB", "none set")
    show("words per GiB of index, all of its arrays", f"{words / size_bytes * 2**30 / 1e6:.0f} M", SIZE_FLOOR)

    asked, planted = answers(texts)
    said = [" ".join(answer) for answer in asked]
    spans.answer(stored, {"text": said[0]})
    taken, worked, recalled = [], [], []
    for text, sources in zip(said, planted, strict=True):
        started, before = time.perf_counter(), time.process_time()
        context = spans.answer(stored, {"text": text}).context
        taken.append(time.perf_counter() - started)
        worked.append(time.process_time() - before)
        # A passage of a licence stands in several texts: the earliest is the right answer.
        earliest = {place for *_span, place in context["spans"]}
        recalled += [source in earliest or _is_elsewhere(context, earliest, source) for source in sources]
    show("spans of a 200-word answer, from text to weights: p50, p95", _ms(taken), FLOOR)
    show("of it the processor's, whatever else runs beside: p50, p95", _ms(worked), "none set")
    show("planted texts recalled, or an earlier one that says the same", f"{np.mean(recalled):.4f}", ">= .998")
    if not alone:
        _peer(texts, asked)
    report.write("Attribution: spans", SHOWN, versions=("numpy", "pydivsufsort"))


def _is_elsewhere(context: dict, found: set[int], source: int) -> bool:
    return source % LICENCE_PART == 0 and any(place % LICENCE_PART == 0 and place <= source for place in found)


def _peer(texts: list[list[str]], asked: list[list[str]]) -> None:
    """infini-gram's own indexing and its own engine, over the same words."""
    numbers: dict[str, int] = {}
    rows = [[numbers.setdefault(word, len(numbers)) % PEER_NUMBERS for word in text] for text in texts]
    questions = [[numbers[word] % PEER_NUMBERS for word in answer] for answer in asked]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "questions.json").write_text(json.dumps(questions))
        np.save(Path(folder, "words.npy"), np.concatenate([np.array(row, dtype=np.uint16) for row in rows]))
        np.save(Path(folder, "lengths.npy"), np.array([len(row) for row in rows]))
        told = json.loads(peers.run("peer_infinigram.py", folder, name="infinigram"))
    show(f"infini-gram {told['version']}: spans of a 200-word answer: p50, p95", told["ms"], "none set")
    show(f"infini-gram {told['version']}: spans of an answer, of all records", f"{told['spans']:.1f}", "none set")
    show(f"infini-gram {told['version']}: words per GiB of index", f"{told['millions_per_gib']:.0f} M", "none set")


def _ms(taken: list[float]) -> str:
    p50, p95 = np.percentile(taken, [50, 95]) * 1000
    return f"{p50:.2f}, {p95:.2f} ms"


SHOWN: list[tuple[str, str, str]] = []


def show(what: str, figure: str, floor: str) -> None:
    SHOWN.append((what, figure, floor))
    print(f"{what:<84} {figure:>18}   floor {floor}", flush=True)


if __name__ == "__main__":
    main(alone="alone" in sys.argv[1:])
