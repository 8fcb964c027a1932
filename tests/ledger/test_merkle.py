"""The tree against RFC 6962 read literally: the reference below is the recursive definition over a list of leaves."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger import merkle


def naive_root(leaves):
    """MTH of RFC 6962 section 2.1, over the leaves themselves."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    half = largest_power_below(len(leaves))
    return hashlib.sha256(b"\x01" + naive_root(leaves[:half]) + naive_root(leaves[half:])).digest()


def naive_path(index, leaves):
    """PATH of RFC 6962 section 2.1.1."""
    if len(leaves) == 1:
        return []
    half = largest_power_below(len(leaves))
    if index < half:
        return [*naive_path(index, leaves[:half]), naive_root(leaves[half:])]
    return [*naive_path(index - half, leaves[half:]), naive_root(leaves[:half])]


def naive_consistency(old_size, leaves, whole=True):
    """SUBPROOF of RFC 6962 section 2.1.2."""
    if old_size == len(leaves):
        return [] if whole else [naive_root(leaves)]
    half = largest_power_below(len(leaves))
    if old_size <= half:
        return [*naive_consistency(old_size, leaves[:half], whole), naive_root(leaves[half:])]
    return [*naive_consistency(old_size - half, leaves[half:], False), naive_root(leaves[:half])]


def largest_power_below(width):
    power = 1
    while power * 2 < width:
        power *= 2
    return power


class Store(dict):
    """Stored nodes, as a table would keep them: a node is written once and never missing when it is read."""

    def __init__(self, *batches):
        super().__init__()
        self.size = 0
        for batch in batches:
            self.append(batch)

    def append(self, leaves):
        nodes = merkle.new_nodes(self.size, [merkle.leaf_hash(leaf) for leaf in leaves], self.hash_at)
        for level, index, digest in merkle.positions(nodes):
            assert (level, index) not in self
            self[level, index] = digest
        self.size += len(leaves)

    def hash_at(self, level, index):
        return self[level, index]


def some_leaves(count):
    return [f"leaf {number}".encode() for number in range(count)]


batches_of_leaves = st.lists(st.lists(st.binary(max_size=9), max_size=40), max_size=8)


def test_the_roots_of_the_rfc_test_vectors_are_found():
    # Certificate Transparency's own eight leaves and roots.
    leaves = [bytes.fromhex(leaf) for leaf in CT_LEAVES]
    assert [merkle.root(size, Store(leaves).hash_at).hex() for size in range(9)] == CT_ROOTS


@given(batches_of_leaves)
def test_every_way_of_batching_appends_stores_exactly_the_complete_subtrees(batches):
    leaves = [leaf for batch in batches for leaf in batch]

    store = Store(*batches)

    assert set(store) == {
        (level, index)
        for level in range(len(leaves).bit_length())
        for index in range(len(leaves) >> level)
    }  # fmt: skip
    for (level, index), digest in store.items():
        assert digest == naive_root(leaves[index << level : (index + 1) << level])
    assert merkle.root(len(leaves), store.hash_at) == naive_root(leaves)


@given(st.data(), st.lists(st.binary(max_size=5), min_size=1, max_size=130))
def test_inclusion_proofs_are_those_of_the_rfc_and_hold(data, leaves):
    size = data.draw(st.integers(1, len(leaves)))
    index = data.draw(st.integers(0, size - 1))
    store = Store(leaves)

    proof = merkle.inclusion_proof(index, size, store.hash_at)

    assert proof == naive_path(index, leaves[:size])
    leaf = merkle.leaf_hash(leaves[index])
    assert merkle.verify_inclusion(leaf, index, size, proof, naive_root(leaves[:size]))


@given(st.data(), st.lists(st.binary(max_size=5), min_size=1, max_size=130))
def test_consistency_proofs_are_those_of_the_rfc_and_hold(data, leaves):
    new_size = data.draw(st.integers(1, len(leaves)))
    old_size = data.draw(st.integers(1, new_size))
    store = Store(leaves)

    proof = merkle.consistency_proof(old_size, new_size, store.hash_at)

    assert proof == naive_consistency(old_size, leaves[:new_size])
    old_root, new_root = naive_root(leaves[:old_size]), naive_root(leaves[:new_size])
    assert merkle.verify_consistency(old_size, new_size, old_root, new_root, proof)


@given(st.data(), st.integers(1, 40))
def test_a_changed_inclusion_proof_is_refused(data, size):
    store = Store(some_leaves(size))
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(index, size, store.hash_at)
    leaf, root = store[0, index], merkle.root(size, store.hash_at)

    other = data.draw(st.integers(0, 2 * size).filter(lambda number: number != index))
    assert not merkle.verify_inclusion(leaf, other, size, proof, root)
    assert not merkle.verify_inclusion(leaf, index, size, [*proof, root], root)
    assert not merkle.verify_inclusion(leaf, index, size, proof, merkle.leaf_hash(root))
    assert not merkle.verify_inclusion(leaf, -1, size, proof, root)
    if proof:
        changed = data.draw(st.integers(0, len(proof) - 1))
        assert not merkle.verify_inclusion(leaf, index, size, proof[:-1], root)
        assert not merkle.verify_inclusion(leaf, index, size, flip_one(proof, changed), root)
        assert not merkle.verify_inclusion(leaf, index, size, shorten_one(proof, changed), root)


@given(st.data(), st.integers(2, 40))
def test_a_changed_consistency_proof_is_refused(data, new_size):
    store = Store(some_leaves(new_size))
    old_size = data.draw(st.integers(1, new_size - 1))
    proof = merkle.consistency_proof(old_size, new_size, store.hash_at)
    old_root, new_root = merkle.root(old_size, store.hash_at), merkle.root(new_size, store.hash_at)
    changed = data.draw(st.integers(0, len(proof) - 1))

    assert not merkle.verify_consistency(old_size, new_size, new_root, new_root, proof)
    assert not merkle.verify_consistency(old_size, new_size, old_root, old_root, proof)
    assert not merkle.verify_consistency(old_size, new_size, old_root, new_root, [])
    assert not merkle.verify_consistency(old_size, new_size, old_root, new_root, proof[:-1])
    assert not merkle.verify_consistency(old_size, new_size, old_root, new_root, [*proof, new_root])
    assert not merkle.verify_consistency(old_size, new_size, old_root, new_root, flip_one(proof, changed))
    assert not merkle.verify_consistency(new_size, old_size, new_root, old_root, proof)


def flip_one(proof, place):
    return [*proof[:place], bytes([proof[place][0] ^ 1]) + proof[place][1:], *proof[place + 1 :]]


def shorten_one(proof, place):
    return [*proof[:place], proof[place][:-1], *proof[place + 1 :]]


def test_a_rewritten_leaf_breaks_consistency():
    honest, rewritten = some_leaves(20), some_leaves(33)
    rewritten[7] = b"what the operator wishes had happened"
    store = Store(rewritten)

    proof = merkle.consistency_proof(20, 33, store.hash_at)

    assert not merkle.verify_consistency(20, 33, naive_root(honest), naive_root(rewritten), proof)


def test_every_tree_extends_the_empty_tree_and_itself_without_a_proof():
    root = naive_root(some_leaves(5))
    assert merkle.verify_consistency(0, 5, merkle.EMPTY_ROOT, root, [])
    assert merkle.verify_consistency(5, 5, root, root, [])
    assert not merkle.verify_consistency(0, 5, root, root, [])
    assert not merkle.verify_consistency(5, 5, root, root, [root])
    assert not merkle.verify_consistency(5, 5, root, merkle.EMPTY_ROOT, [])


@given(st.data(), st.integers(1, 2000))
def test_the_nodes_a_proof_needs_are_known_before_they_are_read(data, size):
    store = Store(some_leaves(size))
    index = data.draw(st.integers(0, size - 1))
    old_size = data.draw(st.integers(1, size))

    for compute, arguments in [
        (merkle.root, (size,)),
        (merkle.inclusion_proof, (index, size)),
        (merkle.consistency_proof, (old_size, size)),
    ]:
        fetched = {node: store[node] for node in merkle.required_nodes(compute, *arguments)}
        assert len(fetched) <= 2 * size.bit_length()
        fewer = compute(*arguments, lambda level, i, fetched=fetched: fetched[level, i])
        assert fewer == compute(*arguments, store.hash_at)


@given(st.data(), st.integers(1, 2000))
def test_what_is_kept_of_the_nodes_gives_all_of_them(data, size):
    store = Store(some_leaves(size))
    kept = {node: digest for node, digest in store.items() if node[0] % merkle.KEPT_EVERY == 0}
    wanted = data.draw(st.lists(st.sampled_from(sorted(store)), max_size=40))

    read = merkle.kept_under(wanted)
    hash_at = merkle.source_of({node: kept[node] for node in read})

    assert [hash_at(*node) for node in wanted] == [store[node] for node in wanted]
    assert len(read) <= 8 * len(wanted)
    assert len(kept) - size <= size // 15, "a fifteenth of a node for each leaf"


def test_impossible_requests_are_refused():
    store = Store(some_leaves(4))
    with pytest.raises(ValueError):
        merkle.inclusion_proof(4, 4, store.hash_at)
    with pytest.raises(ValueError):
        merkle.consistency_proof(5, 4, store.hash_at)
    with pytest.raises(ValueError):
        merkle.root(-1, store.hash_at)
    with pytest.raises(ValueError):
        merkle.new_nodes(4, [b"short"], store.hash_at)


CT_LEAVES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
