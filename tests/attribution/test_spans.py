"""Verbatim spans: what the index finds is what a naive search finds, however the texts are cut into segments."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attribution.engines import from_files, span_index, span_segments, spans
from attribution.engines.span_index import Index, Match
from attribution.engines.span_segments import SPAN_WORDS_MIN, UNKNOWN, joined, sealed
from attribution.engines.span_words import hashes_of, numbered, places_of, words_of
from attribution.engines.spans import MILLION
from attribution.shares import BILLION, quantise

WREN = "The wren is a small brown bird and it weighs about nine grams in winter"
HERON = "A heron stands in shallow water for hours before it catches a single fish"

# Few different words, so that phrases come back; "z" is in no text.
texts = st.lists(st.lists(st.sampled_from("abc"), max_size=30), min_size=1, max_size=5)
answers = st.lists(st.sampled_from("abcz"), max_size=60)


def fitted(*documents: str, weights=None, **options):
    return spans.fit(documents, None, np.ones(len(documents)) if weights is None else np.array(weights), {}, **options)


def found(artifact, text: str, excluded=frozenset()) -> list[tuple[int, int, int | None]]:
    """(first word, words, whose) of each span of an answer."""
    rows = spans.answer(artifact, {"text": text, "excluded_records": excluded}).context["spans"]
    return [(start, length, place) for start, length, _weight, place in rows]


def naive(documents: list[list[str]], answer: list[str]) -> list[tuple[int, int, int | None]]:
    """By the definition: every run of six or more words that is in a document and in no longer such run."""

    def holders(start: int, end: int) -> list[int]:
        phrase = f" {' '.join(answer[start:end])} "
        return [place for place, words in enumerate(documents) if phrase in f" {' '.join(words)} "]

    runs = [
        (start, end)
        for start in range(len(answer))
        for end in range(start + SPAN_WORDS_MIN, len(answer) + 1)
        if holders(start, end)
    ]
    known = set(runs)
    # Part of a longer one: part of one that is a word longer.
    maximal = [(start, end) for start, end in runs if not {(start - 1, end), (start, end + 1)} & known]
    return [(start, end - start, min(holders(start, end))) for start, end in maximal]


@settings(max_examples=100, deadline=None)
@example(documents=[list("abcabcabc")], answer=list("abcabcabcabc"), segment_words=1, sampled_every=1)
@example(
    documents=[list("abcabc"), list("abcabca")], answer=list("abcabczabcabca"), segment_words=100, sampled_every=1024
)
@example(documents=[list("a" * 60), list("ab" * 30)], answer=list("aaaaaaabababa"), segment_words=61, sampled_every=5)
@given(
    documents=texts, answer=answers, segment_words=st.integers(1, 60), sampled_every=st.sampled_from([1, 2, 5, 1024])
)
def test_what_is_found_is_what_a_naive_search_finds_however_texts_are_cut_into_segments(
    documents, answer, segment_words, sampled_every
):
    with pytest.MonkeyPatch.context() as patch:  # so that few words have many samples, and some that are far apart
        for module in (span_index, span_segments):
            patch.setattr(module, "SAMPLED_EVERY", sampled_every)
        patch.setattr(span_index, "REACH_GROWS", 2)
        artifact = fitted(*map(" ".join, documents), segment_words=segment_words)

        assert found(artifact, " ".join(answer)) == naive(documents, answer)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_a_span_has_no_greatest_length(seed):
    # Longer than what is compared at once, and answers that leave the record and come back to it
    made_up = random.Random(seed)
    documents = [[made_up.choice("ab") for _ in range(150)] for _ in range(2)]
    first, second = made_up.randrange(60), made_up.randrange(60)
    answer = [*documents[0][first : first + 90], "z", *documents[1][second : second + 70], "a"]

    assert found(fitted(*map(" ".join, documents)), " ".join(answer)) == naive(documents, answer)


def test_sealed_segments_joined_under_one_vocabulary_find_what_one_array_finds():
    documents = [WREN, HERON, f"{HERON} and then it flies away over the lake", "the lake " * 20]
    answer = f"They say a heron stands in shallow water for hours. {WREN.upper()}, the lake the lake the lake!"

    def index(*groups) -> Index:
        segments = []
        for group in groups:
            vocabulary, numbers = numbered(documents[place] for place in group)
            segments.append(sealed(vocabulary, zip(group, numbers, strict=True)))
        return Index(joined(segments))

    def look(one: Index) -> list[Match]:
        return one.maximal(one.numbers_of(hashes_of(words_of(answer))))

    whole = look(index(range(4)))
    assert [(match.length, match.place) for match in whole] == [(8, 1), (15, 0), (6, 3)]
    # A heron's record comes earlier although its segment comes later.
    for groups in ([[0], [1], [2], [3]], [[0, 1], [2, 3]], [[2, 3], [0, 1]], [[3], [2], [1], [0]]):
        assert look(index(*groups)) == whole


def test_a_span_goes_to_the_earliest_leader_that_contains_it():
    artifact = fitted("nothing to see here at all today", WREN, HERON, f"{WREN} {HERON}")

    assert found(artifact, f"{WREN}. {HERON}.") == [(0, len(WREN.split()) + len(HERON.split()), 3)]
    assert found(artifact, WREN) == [(0, len(WREN.split()), 1)]
    assert found(artifact, HERON) == [(0, len(HERON.split()), 2)]


def test_a_follower_is_not_indexed_and_scores_zero():
    artifact = fitted(WREN, WREN, HERON, weights=[1, 0, 1])
    answer = spans.answer(artifact, {"text": WREN})

    assert spans.attribute(artifact, answer)[[1, 2]].tolist() == [0.0, 0.0]
    assert artifact.arrays["totals"].tolist() == [len(words_of(WREN)) + len(words_of(HERON))]


def test_copies_that_follow_change_nobodys_score_and_not_what_is_found():
    alone = fitted(WREN, HERON)
    crowded = fitted(WREN, HERON, *[WREN] * 30, weights=[1, 1, *[0] * 30])

    one, other = (spans.answer(artifact, {"text": f"{WREN}, but {HERON}"}) for artifact in (alone, crowded))

    assert one == other
    assert quantise(spans.attribute(alone, one)).tolist() == quantise(spans.attribute(crowded, other)).tolist()[:2]


def test_what_a_withdrawn_record_says_goes_to_the_next_that_says_it_and_else_to_nobody():
    artifact = fitted(WREN, HERON, f"It is known: {WREN}.")
    length = len(WREN.split())

    assert found(artifact, WREN, excluded={0}) == [(0, length, 2)]
    nobody = spans.answer(artifact, {"text": WREN, "excluded_records": {0, 2}})
    assert nobody.context["spans"][0][3] is None
    assert nobody.context["records"] == []
    assert not spans.attribute(artifact, nobody).any()
    assert spans.causal_fraction_of(nobody) == 0


@pytest.mark.parametrize("changed", [WREN.upper(), WREN.replace(" ", ",\n"), f"“{WREN}” — so they say."])
def test_case_punctuation_and_white_space_do_not_hide_a_span(changed):
    assert found(fitted(HERON, WREN), changed) == [(0, len(WREN.split()), 1)]


@pytest.mark.parametrize(
    "answer", ["", "...", "The wren is a small", "The wren is a tiny brown bird and it weighs much"]
)
def test_less_than_six_words_in_a_row_are_no_span(answer):
    answered = spans.answer(fitted(WREN), {"text": answer})

    assert answered.context["spans"] == []
    assert spans.causal_fraction_of(answered) == 0


def test_a_span_does_not_reach_from_one_record_into_the_next():
    assert found(fitted("one two three four five", "six seven eight nine ten"), "three four five six seven eight") == []


def test_scripts_without_spaces_are_compared_by_character():
    document = "鷦鷯是一種小型棕色鳥類"
    assert found(fitted(document), f"據說{document}。") == [(2, len(document), 0)]


def test_the_words_of_a_text_stand_where_they_are_said_to_stand():
    text = "Ça va? L'été, 12_3 İstanbul — 鳥 類 ß"
    assert [text[start:end] for start, end in places_of(text)] == words_of(text)
    assert words_of(text) == ["Ça", "va", "L", "été", "12_3", "İstanbul", "鳥", "類", "ß"]


def test_a_span_weighs_the_surprise_of_its_words_and_c_is_their_part_of_the_answer():
    # 8 words: "a" four times, "b" twice, "c" and "d" once
    artifact = fitted("a a b c d b a a")

    context = spans.answer(artifact, {"text": "b c d b a a strange words"}).context

    of = {word: round(1000 * math.log(8 / count)) for word, count in {"a": 4, "b": 2, "c": 1, "d": 1}.items()}
    weight = 2 * of["a"] + 2 * of["b"] + of["c"] + of["d"]
    assert context["spans"] == [[0, 6, weight, 0]]
    assert (context["covered"], context["surprise"]) == (weight, weight + 2 * round(1000 * math.log(8)))
    answer = spans.answer(artifact, {"text": "b c d b a a strange words"})
    assert spans.causal_fraction_of(answer) == MILLION * context["covered"] // context["surprise"]
    assert spans.attribute(artifact, answer).tolist() == [weight]


def test_an_answer_that_is_a_record_is_attributed_whole():
    answer = spans.answer(fitted(WREN, HERON), {"text": HERON})

    assert spans.causal_fraction_of(answer) == MILLION
    assert quantise(spans.attribute(fitted(WREN, HERON), answer)).tolist() == [0, BILLION]


def test_nearly_every_planted_record_is_found():
    # 300 texts of made-up words, and answers of five pieces of 25 words with 15 others between them
    made_up = random.Random(7)
    words = [f"w{i}" for i in range(3000)]
    documents = [" ".join(made_up.choices(words, k=400)) for _ in range(300)]
    artifact = fitted(*documents, segment_words=30_000)
    recalled = []
    for _ in range(40):
        answer, planted = [], []
        for _ in range(5):
            place, start = made_up.randrange(300), made_up.randrange(375)
            planted.append(place)
            answer += documents[place].split()[start : start + 25] + made_up.choices(words, k=15)
        records = spans.answer(artifact, {"text": " ".join(answer)}).context["records"]
        recalled += [place in records for place in planted]

    assert np.mean(recalled) >= 0.998


def test_the_same_texts_give_the_same_artifact_which_its_files_give_back():
    artifact = fitted(WREN, HERON, segment_words=20)
    stored = from_files(artifact.to_files(), sha256=artifact.sha256)

    assert artifact.sha256 == fitted(WREN, HERON, segment_words=20).sha256 == _hash_elsewhere(WREN, HERON)
    assert found(stored, f"{HERON} {WREN}") == found(artifact, f"{HERON} {WREN}") == [(0, 14, 1), (14, 15, 0)]
    assert artifact.sha256 != fitted(HERON, WREN, segment_words=20).sha256


def _hash_elsewhere(*documents: str) -> str:
    """In a process that hashes strings in another way."""
    script = (
        "import sys, numpy; from attribution.engines import spans;"
        "print(spans.fit(sys.argv[1:], None, numpy.ones(2), {}, segment_words=20).sha256)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", script, *documents], env=environment, capture_output=True, check=True)
    return done.stdout.decode().strip()


def test_an_index_holds_no_words():
    files = fitted(WREN, HERON).to_files()

    assert not any(word.encode() in data for data in files.values() for word in ("wren", "heron", "shallow"))


def test_more_texts_leave_the_segments_before_as_they_were():
    # Their words get other numbers in a larger vocabulary, in the same order: nothing is sorted again.
    def segments(*documents):
        return list(spans._segments(list(enumerate(documents)), 20))

    before, after = segments(WREN, HERON), segments(WREN, HERON, "a zebra " * 5)

    assert len(before) == 2 and len(after) == 3
    for one, other in zip(before, after, strict=False):
        assert all((a == b).all() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("documents", "weights", "options"),
    [((WREN,), [1, 1], {}), ((WREN,), [0], {}), ((WREN,), [-1], {})],
)
def test_weights_that_fit_no_records_are_refused(documents, weights, options):
    with pytest.raises(ValueError):
        fitted(*documents, weights=weights, **options)


def test_a_text_longer_than_a_segment_is_refused(monkeypatch):
    monkeypatch.setattr("attribution.engines.span_segments.SEGMENT_WORDS_MAX", 10)
    with pytest.raises(ValueError, match="A segment holds 10 words at most"):
        fitted(WREN, segment_words=10)


@pytest.mark.parametrize("documents", [(), ("",), ("", "...")])
def test_without_texts_nothing_is_found(documents):
    artifact = fitted(*documents)

    assert found(artifact, WREN) == []
    assert Index(artifact.arrays).numbers_of(hashes_of(["wren"])).tolist() == [UNKNOWN]
