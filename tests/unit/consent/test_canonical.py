from __future__ import annotations

import math

import pytest

from privemo_consent.canonical import canonical_bytes, parse_canonical, sha256_hex
from privemo_consent.errors import MalformedError


def test_keys_are_sorted_and_nothing_is_escaped_without_need() -> None:
    assert canonical_bytes({"b": "€/", "a": None, "c": [1, True]}) == (
        '{"a":null,"b":"€/","c":[1,true]}'.encode()
    )


def test_a_published_vector_of_rfc_8785() -> None:
    # RFC 8785 section 3.2.2 and 3.2.3, the literals and string members.
    value = {
        "string": '€$\u000f\nA\'B"\\\\"/',
        "literals": [None, True, False],
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 1e-27],
    }
    want = (
        '{"literals":[null,true,false],'
        '"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_bytes(value) == want.encode()


@pytest.mark.parametrize(
    "value",
    [
        {"a": math.nan},
        {"a": math.inf},
        {"a": 2**53},
        {"a": -(2**53)},
        {1: "a"},
        {"a": "\ud800"},
        {"a": b"bytes"},
        {"a": {1, 2}},
    ],
)
def test_what_json_cannot_say_is_refused(value: object) -> None:
    with pytest.raises(MalformedError):
        canonical_bytes(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'"a"',
        b'{"a":1',
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1}\n',
        b'{"a":1.0}',
        b'{"a":"\\u0041"}',
        b'{"a":NaN}',
        b'\xff{"a":1}',
        b'{"a":"\xed\xa0\x80"}',
        b"[" * 100_000,
    ],
)
def test_bytes_that_are_not_canonical_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_canonical(data)


def test_sha256_is_hexadecimal() -> None:
    assert sha256_hex(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
