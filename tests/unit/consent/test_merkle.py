"""Merkle proofs against an independent recursive reading of RFC 9162, and against liars."""

from __future__ import annotations

import hashlib

import pytest

from privemo_consent import MalformedError, ProofError, merkle

# The leaves and roots of the Certificate Transparency reference tree.
INPUTS = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
KNOWN_ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def naive_root(data: list[bytes]) -> bytes:
    """MTH of RFC 9162 2.1.1, word for word, sharing nothing with the module."""
    if not data:
        return hashlib.sha256().digest()
    if len(data) == 1:
        return hashlib.sha256(b"\x00" + data[0]).digest()
    k = 1
    while k * 2 < len(data):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(data[:k]) + naive_root(data[k:])).digest()


def naive_path(m: int, data: list[bytes]) -> list[bytes]:
    """PATH of RFC 9162 2.1.3.1, word for word."""
    if len(data) == 1:
        return []
    k = 1
    while k * 2 < len(data):
        k *= 2
    if m < k:
        return [*naive_path(m, data[:k]), naive_root(data[k:])]
    return [*naive_path(m - k, data[k:]), naive_root(data[:k])]


def naive_subproof(m: int, data: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 9162 2.1.4.1, word for word."""
    if m == len(data):
        return [] if whole else [naive_root(data)]
    k = 1
    while k * 2 < len(data):
        k *= 2
    if m <= k:
        return [*naive_subproof(m, data[:k], whole), naive_root(data[k:])]
    return [*naive_subproof(m - k, data[k:], False), naive_root(data[:k])]


def leaves(size: int) -> list[bytes]:
    return [f"leaf {i}".encode() for i in range(size)]


def hashed(data: list[bytes]) -> list[bytes]:
    return [merkle.leaf_hash(each) for each in data]


@pytest.mark.parametrize(("size", "want"), KNOWN_ROOTS.items())
def test_roots_of_the_reference_tree(size: int, want: str) -> None:
    assert merkle.root(hashed(INPUTS[:size])).hex() == want


@pytest.mark.parametrize("size", range(34))
def test_roots_equal_the_rfc_read_literally(size: int) -> None:
    assert merkle.root(hashed(leaves(size))) == naive_root(leaves(size))


@pytest.mark.parametrize("size", [*range(1, 18), 31, 32, 33])
def test_every_inclusion_proof_is_the_rfcs_and_verifies(size: int) -> None:
    data = leaves(size)
    root = naive_root(data)
    for index in range(size):
        proof = merkle.inclusion_proof(hashed(data), index)
        assert proof == naive_path(index, data)
        merkle.verify_inclusion(merkle.leaf_hash(data[index]), index, size, proof, root)


@pytest.mark.parametrize("size2", [*range(1, 18), 31, 32, 33])
def test_every_consistency_proof_is_the_rfcs_and_verifies(size2: int) -> None:
    data = leaves(size2)
    for size1 in range(1, size2 + 1):
        proof = merkle.consistency_proof(hashed(data), size1)
        assert proof == naive_subproof(size1, data, True)
        roots = naive_root(data[:size1]), naive_root(data)
        merkle.verify_consistency(size1, size2, proof, *roots)


def test_an_empty_tree_is_a_beginning_of_every_tree() -> None:
    root = naive_root(leaves(5))
    merkle.verify_consistency(0, 5, [], merkle.EMPTY_ROOT, root)
    merkle.verify_consistency(0, 0, [], merkle.EMPTY_ROOT, merkle.EMPTY_ROOT)


def test_a_leaf_never_passes_as_a_node() -> None:
    left, right = b"\x11" * 32, b"\x22" * 32
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)


H = b"\x07" * 32
DATA = leaves(7)
ROOT = naive_root(DATA)
PROOF = naive_path(3, DATA)
LEAF = merkle.leaf_hash(DATA[3])


@pytest.mark.parametrize(
    ("attack", "leaf", "index", "size", "proof", "root", "error"),
    [
        ("another leaf", H, 3, 7, PROOF, ROOT, ProofError),
        ("another place", LEAF, 2, 7, PROOF, ROOT, ProofError),
        ("another root", LEAF, 3, 7, PROOF, H, ProofError),
        ("a smaller tree", LEAF, 3, 4, PROOF, ROOT, ProofError),
        ("a larger tree", LEAF, 3, 9, PROOF, ROOT, ProofError),
        ("a shortened proof", LEAF, 3, 7, PROOF[:-1], ROOT, ProofError),
        ("a lengthened proof", LEAF, 3, 7, [*PROOF, H], ROOT, ProofError),
        ("no proof", LEAF, 3, 7, [], ROOT, ProofError),
        ("a swapped proof", LEAF, 3, 7, PROOF[::-1], ROOT, ProofError),
        ("an index beyond the tree", LEAF, 7, 7, PROOF, ROOT, MalformedError),
        ("a negative index", LEAF, -1, 7, PROOF, ROOT, MalformedError),
        ("an empty tree", LEAF, 0, 0, [], merkle.EMPTY_ROOT, MalformedError),
        ("a size beyond 63 bits", LEAF, 3, 2**63, PROOF, ROOT, MalformedError),
        ("a boolean index", LEAF, True, 7, PROOF, ROOT, MalformedError),
        ("a float size", LEAF, 3, 7.0, PROOF, ROOT, MalformedError),
        ("a text leaf", "leaf", 3, 7, PROOF, ROOT, MalformedError),
        ("a leaf, not its hash", DATA[3], 3, 7, PROOF, ROOT, MalformedError),
        ("a short proof hash", LEAF, 3, 7, [PROOF[0][:31], *PROOF[1:]], ROOT, MalformedError),
        ("a long root", LEAF, 3, 7, PROOF, ROOT + b"\0", MalformedError),
        ("one string as proof", LEAF, 3, 7, b"".join(PROOF), ROOT, MalformedError),
        ("None as proof", LEAF, 3, 7, None, ROOT, MalformedError),
        ("a bytearray hash", LEAF, 3, 7, [bytearray(h) for h in PROOF], ROOT, MalformedError),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_attack_on_inclusion_passes(
    attack: str,
    leaf: bytes,
    index: int,
    size: int,
    proof: list[bytes],
    root: bytes,
    error: type[Exception],
) -> None:
    with pytest.raises(error, match="got"):
        merkle.verify_inclusion(leaf, index, size, proof, root)


ROOT4 = naive_root(DATA[:4])
ROOT5 = naive_root(DATA[:5])
STEP = naive_subproof(5, DATA, True)


@pytest.mark.parametrize(
    ("attack", "size1", "size2", "proof", "root1", "root2", "error"),
    [
        ("a rewritten beginning", 5, 7, STEP, H, ROOT, ProofError),
        ("a rewritten end", 5, 7, STEP, ROOT5, H, ProofError),
        ("roots swapped", 5, 7, STEP, ROOT, ROOT5, ProofError),
        ("sizes swapped", 7, 5, STEP, ROOT, ROOT5, MalformedError),
        ("another first size", 6, 7, STEP, ROOT5, ROOT, ProofError),
        ("a perfect first size", 4, 7, STEP, ROOT4, ROOT, ProofError),
        ("a shortened proof", 5, 7, STEP[:-1], ROOT5, ROOT, ProofError),
        ("a lengthened proof", 5, 7, [*STEP, H], ROOT5, ROOT, ProofError),
        ("equal sizes, other roots", 5, 5, [], ROOT5, H, ProofError),
        ("equal sizes, with proof", 5, 5, [H], ROOT5, ROOT5, ProofError),
        ("empty, with another root", 0, 7, [], H, ROOT, ProofError),
        ("empty, with proof", 0, 7, [H], merkle.EMPTY_ROOT, ROOT, ProofError),
        ("both empty, other root", 0, 0, [], H, H, ProofError),
        ("a negative size", -1, 7, [], ROOT5, ROOT, MalformedError),
        ("a text size", "5", 7, STEP, ROOT5, ROOT, MalformedError),
        ("a short root", 5, 7, STEP, ROOT5[:-1], ROOT, MalformedError),
        ("a short proof hash", 5, 7, [STEP[0][:3], *STEP[1:]], ROOT5, ROOT, MalformedError),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_attack_on_consistency_passes(
    attack: str,
    size1: int,
    size2: int,
    proof: list[bytes],
    root1: bytes,
    root2: bytes,
    error: type[Exception],
) -> None:
    with pytest.raises(error, match="got"):
        merkle.verify_consistency(size1, size2, proof, root1, root2)


def test_asking_for_a_proof_that_cannot_be_raises() -> None:
    with pytest.raises(MalformedError):
        merkle.inclusion_proof(hashed(DATA), 7)
    with pytest.raises(MalformedError):
        merkle.consistency_proof(hashed(DATA), 8)
