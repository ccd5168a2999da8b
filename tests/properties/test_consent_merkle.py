"""Proofs: every honest one verifies, and no change to one does."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from privemo_consent import MalformedError, ProofError, merkle

SIZES = st.integers(1, 300)


def tree(size: int) -> list[bytes]:
    return [merkle.leaf_hash(i.to_bytes(4, "big")) for i in range(size)]


@given(SIZES, st.data())
def test_inclusion(size: int, data: st.DataObject) -> None:
    hashes = tree(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = merkle.inclusion_proof(hashes, index), merkle.root(hashes)
    merkle.verify_inclusion(hashes[index], index, size, proof, root)
    assert len(proof) <= size.bit_length()
    wrong = data.draw(st.integers(0, size - 1))
    if wrong != index:
        with pytest.raises(ProofError):
            merkle.verify_inclusion(hashes[wrong], index, size, proof, root)
        with pytest.raises(ProofError):
            merkle.verify_inclusion(hashes[index], wrong, size, proof, root)


@given(SIZES, SIZES)
def test_consistency(one: int, two: int) -> None:
    size1, size2 = sorted((one, two))
    hashes = tree(size2)
    roots = merkle.root(hashes[:size1]), merkle.root(hashes)
    proof = merkle.consistency_proof(hashes, size1)
    merkle.verify_consistency(size1, size2, proof, *roots)


@given(SIZES, SIZES, st.data())
def test_a_rewritten_leaf_breaks_consistency(one: int, two: int, data: st.DataObject) -> None:
    size1, size2 = sorted((one, two))
    hashes = tree(size2)
    forged = list(hashes)
    forged[data.draw(st.integers(0, size1 - 1))] = merkle.leaf_hash(b"forged")
    roots = merkle.root(hashes[:size1]), merkle.root(forged)
    for told in (hashes, forged):
        with pytest.raises(ProofError):
            merkle.verify_consistency(size1, size2, merkle.consistency_proof(told, size1), *roots)


@given(SIZES, st.data())
def test_one_flipped_bit_of_a_proof_is_seen(size: int, data: st.DataObject) -> None:
    hashes = tree(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = merkle.inclusion_proof(hashes, index), merkle.root(hashes)
    assume(proof)
    bit = data.draw(st.integers(0, 256 * len(proof) - 1))
    at, inside = divmod(bit, 256)
    flipped = int.from_bytes(proof[at], "big") ^ (1 << inside)
    proof[at] = flipped.to_bytes(32, "big")
    with pytest.raises(ProofError):
        merkle.verify_inclusion(hashes[index], index, size, proof, root)


ANYTHING = st.one_of(st.integers(), st.binary(max_size=40), st.none(), st.text(max_size=3))


@given(
    ANYTHING | st.binary(min_size=32, max_size=32),
    ANYTHING,
    ANYTHING,
    ANYTHING | st.lists(st.binary(min_size=30, max_size=33), max_size=5),
    ANYTHING | st.binary(min_size=32, max_size=32),
)
def test_nothing_made_up_verifies(leaf: object, a: object, b: object, c: object, d: object) -> None:
    for check in (merkle.verify_inclusion, merkle.verify_consistency):
        arguments = (leaf, a, b, c, d) if check is merkle.verify_inclusion else (a, b, c, leaf, d)
        with pytest.raises((ProofError, MalformedError)):
            check(*arguments)  # type: ignore[arg-type]
