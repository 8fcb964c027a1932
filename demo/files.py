"""The files that the cast uploads, made from real data. Each function returns (file name, bytes); the same every time."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn import datasets

DATA = Path(__file__).resolve().parent / "data"
SEED = 20261122

# Rows of the tumour table, after one fixed shuffle: who contributes which, and which nobody does (the buyer asks them).
ALICE_TUMOURS = slice(0, 240)
BOB_TUMOURS = slice(240, 440)
MAX_TUMOURS = slice(440, 470)
UNSEEN_TUMOURS = slice(470, 569)
COPIES = 30


def licences(part: str) -> list[dict]:
    """Licence texts of "first" or "rest": spdx_id, title, source_url, text."""
    rows = [json.loads(line) for line in (DATA / "licences.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["part"] == part]


def licences_jsonl(rows: list[dict]) -> bytes:
    """One document per line, as the text kind reads it."""
    keep = ("title", "text", "source_url")
    return "".join(json.dumps({key: row[key] for key in keep}, ensure_ascii=False) + "\n" for row in rows).encode()


def junk_jsonl() -> bytes:
    """What a contributor sends who hopes that nobody looks."""
    rows = [
        {"title": "License of free", "text": "free free free free free free free free free free free free"},
        {"title": "asdf", "text": "asdkjh qwoeiu zxmcnb alskdj qpwoei zmxncb aksjdh qowieu mznxbc ajshdk poqiwe"},
        {"title": "Best deals", "text": "BUY NOW cheap watches cheap watches best price click here click here now!!!"},
        {"title": "Shopping", "text": "milk, eggs, flour, butter, apples, two onions, rice, washing powder"},
    ]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def tumour_columns() -> list[str]:
    names = [str(name).replace(" ", "_") for name in datasets.load_breast_cancer().feature_names]
    return [*names, "diagnosis"]


def tumour_schema() -> dict:
    """Thirty measurements of a cell nucleus, and what the tumour was."""
    *numbers, label = tumour_columns()
    columns = [{"name": name, "type": "number", "required": True, "min": 0} for name in numbers]
    columns.append({"name": label, "type": "category", "required": True, "values": ["benign", "malignant"]})
    return {"columns": columns, "label": label, "label_type": "category"}


def tumours(part: slice, *, flipped: bool = False) -> list[list[str]]:
    """Rows of the table as text; `flipped` writes the other diagnosis."""
    bunch = datasets.load_breast_cancer()
    order = np.random.default_rng(SEED).permutation(len(bunch.data))[part]
    names = ["malignant", "benign"]
    return [
        [*(repr(float(value)) for value in bunch.data[i]), names[1 - bunch.target[i] if flipped else bunch.target[i]]]
        for i in order
    ]


def table_csv(columns: list[str], rows: list[list[str]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return out.getvalue().encode()


def tumour_copies_exact() -> bytes:
    """Thirty of Alice's rows, to the digit, in another order of lines."""
    return table_csv(tumour_columns(), tumours(ALICE_TUMOURS)[:COPIES][::-1])


def tumour_copies_edited() -> bytes:
    """Thirty more of Alice's rows, written in scientific notation and moved by a fifth of a thousandth."""
    rows = tumours(ALICE_TUMOURS)[COPIES : 2 * COPIES]
    edited = [[*(f"{float(value) * 1.0002:.6e}" for value in row[:-1]), row[-1]] for row in rows]
    return table_csv(tumour_columns(), edited)


def unseen_tumours(count: int) -> list[dict[str, float]]:
    """Rows that no Datanet holds, as inputs of calls."""
    columns = tumour_columns()[:-1]
    return [dict(zip(columns, map(float, row[:-1]), strict=True)) for row in tumours(UNSEEN_TUMOURS)[:count]]


def grunfeld_rows() -> tuple[list[str], list[list[str]]]:
    with (DATA / "grunfeld.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows


def grunfeld_schema() -> dict:
    """Yearly figures of a firm; gross investment is what a model learns to estimate."""
    numbers = {"invest": "gross investment", "value": "market value", "capital": "plant and equipment"}
    columns = [{"name": name, "type": "number", "required": True, "min": 0} for name in numbers]
    columns.append({"name": "firm", "type": "category", "required": True})
    columns.append({"name": "year", "type": "integer", "required": True, "min": 1900, "max": 2100})
    return {"columns": columns, "label": "invest", "label_type": "number"}


def digits(part: slice, *, blank: int = 0) -> bytes:
    """A zip of PNG digits with labels.csv, after one fixed shuffle; `blank` adds white squares."""
    bunch = datasets.load_digits()
    order = np.random.default_rng(SEED).permutation(len(bunch.images))[part]
    out = io.BytesIO()
    labels = []
    with zipfile.ZipFile(out, "w") as archive:
        for i in order:
            name = f"digit-{i:04d}.png"
            archive.writestr(zipfile.ZipInfo(name), _png(bunch.images[i]))
            labels.append([name, str(bunch.target[i])])
        for number in range(blank):
            name = f"blank-{number:02d}.png"
            archive.writestr(zipfile.ZipInfo(name), _png(np.full((8, 8), 0.25 * number)))
            labels.append([name, str(number % 10)])
        archive.writestr(zipfile.ZipInfo("labels.csv"), table_csv(["file", "label"], labels))
    return out.getvalue()


def unseen_digits(count: int) -> list[bytes]:
    """PNG digits that no Datanet holds."""
    bunch = datasets.load_digits()
    order = np.random.default_rng(SEED).permutation(len(bunch.images))[-count:]
    return [_png(bunch.images[i]) for i in order]


def _png(levels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.round(levels * 255.0 / 16.0).astype(np.uint8)).save(out, format="PNG")
    return out.getvalue()
