"""Who was first. The figures that datanets.leaders states are measured here again, on real data."""

from __future__ import annotations

import importlib.metadata
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_digits

from datanets import leaders
from datanets.leaders import Index, Member, assign, bands, distance, leader_map, signature


def png(pixels, **options) -> bytes:
    out = io.BytesIO()
    options.setdefault("format", "PNG")
    Image.fromarray(np.clip(np.round(pixels), 0, 255).astype(np.uint8)).save(out, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def digits():
    pixels = load_digits().images * 255 / 16
    return pixels, [signature("image", {}, png(each)) for each in pixels]


@pytest.fixture(scope="module")
def tumours():
    table = load_breast_cancer()
    names = [str(name) for name in table.feature_names]
    schema = {"columns": [{"name": name, "type": "number"} for name in names], "label": "diagnosis"}
    bodies = [
        {**dict(zip(names, map(float, row), strict=True)), "diagnosis": str(label)}
        for row, label in zip(table.data, table.target, strict=True)
    ]
    return leaders.with_spreads(schema, bodies), bodies


@pytest.fixture(scope="module")
def passages():
    found = {}
    for package in importlib.metadata.distributions():
        for file in package.files or []:
            if "licen" in file.name.lower() and ".dist-info" in str(file):
                words = file.read_text(encoding="utf-8").split()
                for start in range(0, len(words) - 120, 120):
                    found[" ".join(words[start : start + 120])] = None
    return list(found)[:200]


def registered(signatures) -> Index:
    index = Index()
    for position, each in enumerate(signatures):
        index.add(position, each)
    return index


def caught(index: Index, edited) -> float:
    """The share of edited records, given as (position of the original, signature), that are found as its copies."""
    hits = [index.nearest(each) for _, each in edited]
    return float(np.mean([hit is not None and hit[0] == at for hit, (at, _) in zip(hits, edited, strict=True)]))


def test_no_two_honest_digits_merge(digits):
    decided = assign(enumerate(digits[1]), Index())
    assert [copy_of for _, copy_of, _ in decided if copy_of is not None] == []


@pytest.mark.parametrize(
    "edit",
    [
        lambda pixels, random: png(pixels * 1.02),
        lambda pixels, random: png(pixels * 0.98),
        lambda pixels, random: png(pixels + random.integers(-2, 3, pixels.shape)),
        lambda pixels, random: png(pixels, format="JPEG", quality=95),
        lambda pixels, random: png(np.kron(pixels, np.ones((8, 8)))),
    ],
    ids=["brighter", "darker", "noise", "jpeg", "enlarged"],
)
def test_a_lightly_edited_digit_is_found_as_a_copy(digits, edit):
    random = np.random.default_rng(1)
    pixels, signatures = digits
    edited = [(at, signature("image", {}, edit(pixels[at], random))) for at in range(0, len(pixels), 9)]
    assert caught(registered(signatures), edited) == 1.0


def test_pictures_of_one_shape_in_different_colours_are_not_copies():
    square = np.zeros((32, 32, 3))
    red, blue = square.copy(), square.copy()
    red[8:24, 8:24, 0], blue[8:24, 8:24, 2] = 255, 255
    assert assign([("red", signature("image", {}, png(red))), ("blue", signature("image", {}, png(blue)))], Index())[
        1
    ] == ("blue", None, None)


def test_blank_pictures_of_one_colour_are_copies():
    white = [signature("image", {}, png(np.full((side, side, 3), 255))) for side in (20, 30)]
    assert assign(enumerate(white), Index())[1][1] == 0


def test_no_two_honest_table_rows_merge(tumours):
    schema, bodies = tumours
    sketches = [(at, signature("tabular", body, schema=schema)) for at, body in enumerate(bodies)]
    assert [copy_of for _, copy_of, _ in assign(sketches, Index()) if copy_of is not None] == []


@pytest.mark.parametrize("edit", ["reformatted", "rounded", "noise"])
def test_a_table_row_copied_with_another_label_is_found(tumours, edit):
    schema, bodies = tumours
    random = np.random.default_rng(2)
    spread = {column["name"]: column["spread"] for column in schema["columns"]}
    index = registered([signature("tabular", body, schema=schema) for body in bodies])
    change = {
        "reformatted": lambda name, value: float(f"{value:.10e}"),
        "rounded": lambda name, value: float(f"{value:.3g}"),
        "noise": lambda name, value: value + random.uniform(-0.004, 0.004) * spread[name],
    }[edit]
    edited = []
    for at in range(0, len(bodies), 7):
        copy = {name: change(name, value) for name, value in bodies[at].items() if name != "diagnosis"}
        edited.append((at, signature("tabular", copy | {"diagnosis": "stolen"}, schema=schema)))
    assert caught(index, edited) == 1.0


def test_neighbouring_years_of_a_firm_are_not_copies():
    rows = [{"firm": "Wren", "year": 1935 + n, "value": 3078.5 + n, "capital": 2.8 + n} for n in range(20)]
    assert not any(
        copy_of is not None
        for _, copy_of, _ in assign(((n, signature("tabular", row)) for n, row in enumerate(rows)), Index())
    )


def test_rows_that_say_little_are_copies_only_when_everything_is_the_same():
    schema = {"columns": [], "label": "sick"}
    rows = [{"age": 41, "sick": "no"}, {"age": 41, "sick": "yes"}, {"age": 41, "sick": "no"}]
    decided = assign(((n, signature("tabular", row, schema=schema)) for n, row in enumerate(rows)), Index())
    assert [copy_of for _, copy_of, _ in decided] == [None, None, 0]


def test_the_order_of_columns_does_not_hide_a_copy():
    row = {"a": 1.234, "b": 5.678, "c": 9.1011}
    turned = dict(reversed(row.items()))
    assert signature("tabular", row) == signature("tabular", turned)


@pytest.mark.parametrize("replaced", [0, 2, 4, 6])
def test_a_passage_with_a_few_words_replaced_is_found(passages, replaced):
    random = np.random.default_rng(3)
    sketches = [signature("text", {"text": passage}) for passage in passages]
    vocabulary = sorted({word for passage in passages for word in passage.split()})
    missed = 0
    for passage, original in zip(passages, sketches, strict=True):
        words = passage.split()
        for at in random.choice(len(words), replaced, replace=False):
            words[at] = str(random.choice(vocabulary))
        copy = signature("text", {"text": "\u200b ".join(words).upper()})
        found = registered([original]).nearest(copy)
        missed += found is None
    assert missed <= len(passages) * 0.01


def test_different_licences_are_far_apart():
    texts = {}
    for package, name in (("Django", "BSD"), ("pytest", "MIT"), ("requests", "Apache")):
        file = next(f for f in importlib.metadata.files(package) if f.name in ("LICENSE", "LICENSE.txt"))
        texts[name] = signature("text", {"text": file.read_text(encoding="utf-8")})
    apart = [distance(texts[a], texts[b]) for a, b in (("BSD", "MIT"), ("MIT", "Apache"), ("BSD", "Apache"))]
    assert min(apart) > 0.85


def test_short_sentences_from_one_template_are_not_copies():
    first, second = ({"text": f"In {year} the firm earned ten million and paid no dividend."} for year in (2012, 2013))
    assert assign([(1, signature("text", first)), (2, signature("text", second))], Index())[1] == (2, None, None)


def test_a_chain_of_small_steps_does_not_join_its_ends():
    words = [f"word{n}" for n in range(120)]
    chain = [" ".join(words[: 120 - 6 * step] + [f"new{n}" for n in range(6 * step)]) for step in range(16)]
    decided = assign(((n, signature("text", {"text": text})) for n, text in enumerate(chain)), Index())
    assert decided[1][1] == 0
    assert decided[15][1] != 0, "the last shares a quarter of its words with the first, through followers only"
    leading = {key for key, copy_of, _ in decided if copy_of is None}
    assert all(copy_of in leading for _, copy_of, _ in decided if copy_of is not None)


def test_kinds_are_never_compared(digits):
    text = signature("text", {"text": "a word " * 50})
    assert distance(text, digits[1][0]) is None
    assert not set(bands(text)) & set(bands(digits[1][0]))


def test_bands_fit_a_bigint_and_are_the_same_every_time(digits):
    assert bands(digits[1][5]) == bands(bytes(digits[1][5]))
    assert all(0 <= band < 2**62 for band in bands(digits[1][5]))


members = st.lists(
    st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30
)  # (cluster, is it in the version), in the order of registration


def as_members(rows) -> list[Member]:
    first: dict[int, int] = {}
    return [
        Member(at, None if first.setdefault(cluster, at) == at else first[cluster], inside)
        for at, (cluster, inside) in enumerate(rows)
    ]


@given(members)
@settings(max_examples=200, deadline=None)
def test_every_cluster_of_a_version_has_one_leader_and_it_is_the_earliest(rows):
    records = as_members(rows)
    followers = leader_map(records)
    for cluster in {cluster for cluster, _ in rows}:
        inside = [at for at, (other, in_version) in enumerate(rows) if other == cluster and in_version]
        assert [at for at in inside if at not in followers] == inside[:1]
        assert all(followers[at] == inside[0] for at in inside[1:])


@given(members)
@settings(max_examples=200, deadline=None)
def test_a_later_copy_never_changes_who_leads(rows):
    before = leader_map(as_members(rows))
    leading = {at for at, (_, inside) in enumerate(rows) if inside} - before.keys()
    after = leader_map(as_members([*rows, (rows[0][0], True)]))
    still = {at for at, (_, inside) in enumerate(rows) if inside} - after.keys()
    assert leading == still


def test_withdrawing_a_leader_promotes_the_next_copy():
    records = [Member("first", None, False), Member("second", "first", True), Member("third", "first", True)]
    assert leader_map(records) == {"third": "second"}
