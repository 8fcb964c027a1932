"""Mutate the hostile corpus and some good files, and parse what comes out: nothing may surprise a parser.

    .venv/bin/python -m bench.hostile --files 20000 --seed 1

Each file gets a few random changes (bits, bytes, cuts, repeats, pieces of another file). Files share locked processes as in
tests/datanets/batches.py; one that kills its process, or that its parser did not expect, is read again in a sandbox of its own,
as an upload is. Prints how many files were refused, accepted, killed, what surprised, the slowest file and the peak.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from datanets import sandbox
from datanets.kinds import Refused
from tests.datanets import batches, hostile, hostile_more
from tests.datanets.test_sandbox import SCHEMAS

BATCH = 250
SEED_BYTES_MAX = 200_000  # the larger ones are about size; changing a byte of them tells nothing new


def seeds() -> list[tuple[str, str, bytes]]:
    built = [(name, kind, build()) for name, kind, build, _ in [*hostile.CASES, *hostile_more.CASES]]
    good = [
        ("good.csv", "tabular", b"a,b\n" + b"".join(b"%d.5,%d\n" % (n, n % 10) for n in range(200))),
        ("good.parquet", "tabular", hostile.parquet({"a": [1.5] * 200, "b": [1] * 200})),
        ("good.zip", "text", hostile.zipped({"a.txt": hostile.PROSE, "b.md": b"# T\n\nText."})),
        ("good.docx", "text", hostile.word()),
        ("good.pdf", "text", hostile.pdf()),
        ("good.png", "image", hostile.png(64, 48)),
        ("good.jpg", "image", hostile.png(64, 48, format="JPEG")),
        ("good.webp", "image", hostile.png(64, 48, format="WEBP")),
    ]
    return [seed for seed in built if 0 < len(seed[2]) <= SEED_BYTES_MAX] + good * 8


def mutated(content: bytes, other: bytes, chance: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        if not data:
            break
        at, length = chance.randrange(len(data)), chance.randrange(1, 64)
        change = chance.randrange(7)
        if change == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif change == 1:
            data[at : at + length] = chance.randbytes(length)
        elif change == 2:
            del data[at : at + length]
        elif change == 3:
            data = data[:at]
        elif change == 4:
            data[at:at] = data[at : at + length] * chance.randrange(1, 40)
        elif change == 5:
            data[at : at + 4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80"))
        else:
            from_ = chance.randrange(len(other))
            data[at : at + length] = other[from_ : from_ + length]
    return bytes(data)


def alone(name: str, kind: str, content: bytes) -> str:
    """What becomes of a file that is uploaded: the real sandbox."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "upload")
        path.write_bytes(content)
        try:
            list(sandbox.parse_file(path, kind=kind.split("_")[0], schema=SCHEMAS[kind], name=name))
        except Refused:
            return "refused"
        except sandbox.SandboxError as error:
            return f"sandbox: {type(error).__name__}"
        return "read"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--files", type=int, default=20_000)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--keep", type=Path, help="a folder for the files that surprised a parser")
    told = arguments.parse_args()
    chance = random.Random(told.seed)
    corpus = seeds()
    outcomes: Counter[str] = Counter()
    slowest, peak, done, started = 0.0, 0, 0, time.monotonic()
    while done < told.files:
        files = []
        for _ in range(min(BATCH, told.files - done)):
            name, kind, content = chance.choice(corpus)
            files.append((name, kind, mutated(content, chance.choice(corpus)[2], chance)))
        done += len(files)
        while files:
            answers = batches.parse_all(files, schemas=SCHEMAS, timeout_s=600)
            for (name, kind, content), answer in zip(files, answers, strict=False):
                slowest, peak = max(slowest, answer.seconds), max(peak, answer.peak_mib)
                if broke := next((code for code in answer.codes if code.startswith("broke")), None):
                    outcomes[f"surprised {name.rpartition('.')[2]}: {broke[:90]} -> {alone(name, kind, content)}"] += 1
                    keep(told.keep, name, content)
                else:
                    outcomes["read" if "ok" in answer.codes else "refused"] += 1
            if len(answers) < len(files):  # the next one killed the process
                name, kind, content = files[len(answers)]
                outcomes[f"killed its process -> {alone(name, kind, content)}"] += 1
                keep(told.keep, name, content)
            files = files[len(answers) + 1 :]
        if done % 5_000 < BATCH:
            print(f"{done} files, {time.monotonic() - started:.0f} s, {dict(outcomes)}", flush=True)
    print(f"{told.files} files in {time.monotonic() - started:.0f} s; slowest {slowest:.2f} s; peak {peak} MiB")
    for outcome, count in outcomes.most_common():
        print(f"{count:7}  {outcome}")


def keep(folder: Path | None, name: str, content: bytes) -> None:
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        Path(folder, f"{len(list(folder.iterdir()))}-{name}").write_bytes(content)


if __name__ == "__main__":
    main()
