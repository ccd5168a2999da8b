"""One file that carries its card and its signature: what opens it, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import onnxruntime
import pytest

from privemo.errors import ModelChanged, ModelError
from privemo.recognizer.exported import CARD, SEAL, _entry, open_exported, seal, verify_exported
from privemo.recognizer.runtime import Classifier
from privemo_consent import SigningKey
from tests.support.kiosks import card, nobody_body, signed

KEY, OTHER = SigningKey.generate("chain"), SigningKey.generate("chain")


@pytest.fixture(scope="module")
def raw() -> bytes:
    return signed(KEY)


def test_a_signed_model_opens_and_says_who_signed_it(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(raw)
    found = open_exported(tmp_path / "model.onnx", [OTHER.verifying, KEY.verifying])
    assert found.signed_by == ("chain",)
    assert found.card.run_id == "run-1"
    assert Classifier(found).card == found.card


def test_it_is_a_whole_onnx_model_that_any_tool_opens(raw: bytes) -> None:
    model = onnx.load_from_string(raw)
    onnx.checker.check_model(model)
    assert [entry.key for entry in model.metadata_props] == [CARD, SEAL]
    metadata = onnxruntime.InferenceSession(raw, providers=["CPUExecutionProvider"]).get_modelmeta()
    assert set(metadata.custom_metadata_map) == {CARD, SEAL}


def flipped(at: int) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        place = at % len(raw)
        return raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]

    return change


def unsealed(raw: bytes) -> bytes:
    return raw[: raw.rfind(SEAL.encode()) - 5]


def resealed(raw: bytes) -> bytes:
    """Another body under the old seal."""
    tail = raw[len(unsealed(raw)) :]
    return unsealed(raw).replace(b"run-1", b"run-2") + tail


ATTACKS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a bit of the weights": (flipped(1_000_000), "it was changed since"),
    "the first byte": (flipped(0), "it was changed since"),
    "a bit of the signature": (flipped(-20), r"does not hold|is damaged"),
    "the last byte": (flipped(-1), r"does not hold|is damaged"),
    "no seal": (unsealed, "nobody signed it"),
    "nothing at all": (lambda raw: b"", "nobody signed it"),
    "half of it": (lambda raw: raw[: len(raw) // 2], "nobody signed it"),
    "something behind the seal": (lambda raw: raw + b"\0", r"stands behind it"),
    "weights behind the seal": (lambda raw: raw + _entry("x", b"y"), r"stands behind it"),
    "something before it": (lambda raw: _entry("x", b"y") + raw, "it was changed since"),
    "two seals": (lambda raw: raw + raw[len(unsealed(raw)) :], "it was changed since"),
    "another card under the old seal": (resealed, "it was changed since"),
    "signed by somebody else": (lambda raw: signed(OTHER), "no key that is known has signed"),
    "a seal that is no note": (
        lambda raw: unsealed(raw) + _entry(SEAL, b"trust me\n"),
        "does not hold",
    ),
    "a seal of something else": (
        lambda raw: unsealed(raw) + _entry(SEAL, note_of("privemo.audit/run-1\nfine\n")),
        "is of something else",
    ),
    "a body without a card": (lambda raw: seal(nobody_body(), "run-1", KEY), "it has no card"),
    "a card of another run": (
        lambda raw: seal(unsealed(raw), "run-9", KEY),
        "its card is of run run-1, its signature of run-9",
    ),
}


def note_of(text: str) -> bytes:
    from privemo_consent.note import sign_note

    return sign_note(text, KEY).encode()


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_altered_model_is_refused_and_told_why(raw: bytes, attack: str) -> None:
    change, told = ATTACKS[attack]
    with pytest.raises(ModelError, match=told) as refused:
        verify_exported(change(raw), [KEY.verifying])
    # Whoever was known signed the last two, whatever they are.
    assert isinstance(refused.value, ModelChanged) is (attack not in list(ATTACKS)[-2:])


def test_nobody_is_trusted_by_default(raw: bytes) -> None:
    with pytest.raises(ModelError, match="name whose signature you trust"):
        verify_exported(raw, [])


def test_what_is_no_file_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx cannot be read"):
        open_exported(tmp_path / "gone.onnx", [KEY.verifying])
    with pytest.raises(ModelError, match="cannot be read"):
        open_exported(tmp_path, [KEY.verifying])


def test_a_card_with_a_field_nobody_knows_is_no_card() -> None:
    from privemo_consent.canonical import canonical_bytes

    content = card(nobody_body()).content() | {"trust_me": True}
    body = nobody_body() + _entry(CARD, canonical_bytes(content))
    with pytest.raises(ModelError, match=r"none of schema privemo\.model/1"):
        verify_exported(seal(body, "run-1", KEY), [KEY.verifying])


def test_a_model_that_says_something_else_on_this_machine_is_refused() -> None:
    from privemo.recognizer.card import SelfCheck

    wrong = SelfCheck(probabilities=(0.97, 0.01, 0.01, 0.01), tolerance=0.05)
    raw = signed(KEY, check=wrong)
    with pytest.raises(ModelError, match="says something else than where it was exported"):
        Classifier(verify_exported(raw, [KEY.verifying]))


def test_a_signed_model_that_reads_something_else_is_refused() -> None:
    raw = signed(KEY, channels=3)
    with pytest.raises(ModelError, match="does not read and say what its card tells"):
        Classifier(verify_exported(raw, [KEY.verifying]))


def test_a_signed_body_that_is_no_network_is_refused() -> None:
    from privemo_consent.canonical import canonical_bytes

    body = b"\x07junk" + _entry(CARD, canonical_bytes(card(nobody_body()).content()))
    with pytest.raises(ModelError, match="ONNX Runtime cannot read the model"):
        Classifier(verify_exported(seal(body, "run-1", KEY), [KEY.verifying]))
