"""How often noise is convicted, and how often honest rows are, on fresh draws. Needs nothing but the development packages.

    .venv/bin/python bench/noise.py            20 draws of each kind, some 20 minutes on one core
    .venv/bin/python bench/noise.py --quick    4 draws

1,000 incumbents, 250 validation rows, and 6 blocks of 64 new rows (of one class: what there is) of scikit-learn's digits.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from attribution import noise
from bench import report
from tests.attribution.noise_tasks import digits

KINDS = ("honest", "one class", "garbage", "shuffled", "pseudo", "augmented")
HONEST = ("honest", "one class")
TITLE = "Noise: convicted draws; blocks convicted / atypical / all; median z; claim of the new rows; median time"
SIZES = {"incumbents": 1000, "validation": 250, "entrants": 384}


def main() -> None:
    draws = 4 if "--quick" in sys.argv else 20
    rows = []
    for kind in KINDS:
        convicted, blocks, zs, parts, seconds = 0, [0, 0, 0], [], [], []
        for seed in range(100, 100 + draws):
            task, claims = digits(kind, seed, **SIZES)
            started = time.perf_counter()
            found = noise.judge(task)
            seconds.append(time.perf_counter() - started)
            convicted += bool(found.convicted)
            atypical = sum(block.typicality.is_atypical for block in found.blocks)
            blocks = [a + b for a, b in zip(blocks, (len(found.convicted), atypical, len(found.blocks)), strict=True)]
            zs.append(found.z)
            positive = claims.clip(min=0)
            parts.append(positive[SIZES["incumbents"] :].sum() / positive.sum())
        figure = (
            f"{convicted} of {draws} draws; blocks {' / '.join(map(str, blocks))}; z {statistics.median(zs):.1f}; "
            f"{100 * statistics.mean(parts):.0f} % of the claim; {statistics.median(seconds):.1f} s"
        )
        rows.append((kind, figure, "0" if kind in HONEST else "all"))
        print(*rows[-1], flush=True)
    if "--quick" not in sys.argv:
        report.write(TITLE, rows, versions=("numpy", "scipy", "scikit-learn"))


if __name__ == "__main__":
    main()
