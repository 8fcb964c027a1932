"""infini-gram: index numbers with its own tool, then ask its engine for the spans of answers, as OLMoTrace does.

peer_infinigram.py FOLDER    words.npy and lengths.npy (documents), questions.json. Prints its version, times and size.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np

with contextlib.redirect_stdout(sys.stderr):
    from infini_gram.engine import InfiniGramEngine
    from infini_gram.indexing import build_sa

SPAN_WORDS_MIN = 6
END = 2**16 - 1

folder = Path(sys.argv[1])
words, lengths = np.load(folder / "words.npy"), np.load(folder / "lengths.npy")
questions = json.loads((folder / "questions.json").read_text())
begins = np.concatenate([[0], np.cumsum(lengths)[:-1]])
index = folder / "index"
index.mkdir()
# Its format: before each document 2^16 - 1, and where each begins in bytes.
np.insert(words, begins, END).astype("<u2").tofile(index / "tokenized.0")
((begins + np.arange(len(begins))) * 2).astype("<u8").tofile(index / "offset.0")
with contextlib.redirect_stdout(sys.stderr):
    build_sa(
        argparse.Namespace(
            save_dir=str(index), temp_dir=str(index), worker_id=0, workers=1, shards=1, mem=4, cpus=2, token_width=2
        )
    )
bytes_on_disk = sum(path.stat().st_size for path in index.iterdir() if path.is_file())
with contextlib.redirect_stdout(sys.stderr):
    engine = InfiniGramEngine(
        index_dir=str(index),
        eos_token_id=END - 1,
        vocab_size=END,
        token_dtype="u16",
        precompute_unigram_logprobs=True,
    )
taken, found = [], 0
for question in questions[:1] + questions:
    start = time.perf_counter()
    answer = engine.attribute(
        input_ids=question, delim_ids=[], min_len=SPAN_WORDS_MIN, max_cnt=10**9, enforce_bow=False
    )
    taken.append(time.perf_counter() - start)
    found += len(answer["spans"])
p50, p95 = np.percentile(taken[1:], [50, 95]) * 1000
print(
    json.dumps(
        {
            "version": metadata.version("infini-gram"),
            "ms": f"{p50:.2f}, {p95:.2f} ms",
            "spans": found / len(taken),
            "millions_per_gib": len(words) / bytes_on_disk * 2**30 / 1e6,
        }
    ),
    flush=True,
)
os._exit(0)  # its threads do not end
