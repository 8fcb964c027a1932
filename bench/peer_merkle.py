"""pymerkle 7: append LEAVES hashes, then prove and verify some. Prints appends/s, proof us, verify us.

peer_merkle.py LEAVES
"""

import random
import statistics
import sys
import time

from pymerkle import InmemoryTree, verify_inclusion

size = int(sys.argv[1])
data = [number.to_bytes(32, "big") for number in range(size)]
tree = InmemoryTree(algorithm="sha256")
start = time.perf_counter()
for leaf in data:
    tree.append_entry(leaf)
appends = size / (time.perf_counter() - start)
root, proofs, checks = tree.get_root(), [], []
for index in random.Random(0).sample(range(1, size + 1), 50):
    start = time.perf_counter()
    proof = tree.prove_inclusion(index, size)
    proofs.append(time.perf_counter() - start)
    start = time.perf_counter()
    verify_inclusion(tree.get_leaf(index), root, proof)
    checks.append(time.perf_counter() - start)
print(appends, statistics.median(proofs) * 1e6, statistics.median(checks) * 1e6)
