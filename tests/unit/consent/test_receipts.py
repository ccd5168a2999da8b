"""Receipts: what they say, who can verify them, and that they fit into one QR code."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    MalformedError,
    Notice,
    Party,
    ProofError,
    Purpose,
    SignatureError,
    merkle,
)
from privemo_consent.checkpoint import Checkpoint, sign_checkpoint
from privemo_consent.keys import SigningKey
from privemo_consent.leaves import consent_leaf, subject_tag
from privemo_consent.qr import DICTIONARY, PREFIX, from_qr_text, qr_png, qr_svg, qr_text
from privemo_consent.receipts import issue_receipt, verify_receipt
from tests.support.consent import consent_notice

MILLION = 1_000_000
PAGE = Path(__file__).parents[3] / "docs/how-to/receipts.md"
PARTY = Party(id="shop-1", name="A Shop", address="1 Main Street", contact="privacy@example.org")
NOTICE = Notice(
    notice_id="faces",
    version=2,
    language="en",
    text="We would like to use pictures of your face.",
    controller=PARTY,
    purposes=tuple(Purpose),
    jurisdictions=("IE",),
    recipients=("none",),
    storage_location="in the store",
    retention_days=365,
    withdrawal_method="the same screen, one touch",
)


def leaf(person: str, key: bytes, **changes: Any) -> bytes:
    record_id = secrets.token_hex(16)
    fields: dict[str, Any] = {
        "record_id": record_id,
        "subject": subject_tag(key, record_id, person),
        "purpose": "training",
        "status": "ConsentGiven",
        "at": "2026-03-01T09:00:00.000000Z",
        "recorded_at": "2026-03-01T09:00:00.000000Z",
        "expires": "2026-06-09T09:00:00.000000Z",
        "entity": "data_subject",
        "role": "shopper",
        "jurisdiction": "IE",
        "notice": NOTICE.hash,
        "simulated": False,
    }
    return consent_leaf(**(fields | changes))


@dataclass
class SparseLog:
    """A log of any size of which few leaves are known; the rest are hashes drawn by their place.

    Roots and proofs are computed as in a full log, so they are true proofs of that size.
    """

    size: int
    leaves: dict[int, bytes] = field(default_factory=dict)

    def _full(self, level: int, index: int) -> bytes:
        if not any(seq >> level == index for seq in self.leaves):
            return hashlib.sha256(f"{self.size} {level} {index}".encode()).digest()
        if level == 0:
            return merkle.leaf_hash(self.leaves[index])
        halves = (self._full(level - 1, 2 * index + side) for side in (0, 1))
        return merkle.node_hash(*halves)

    def head(self, origin: str) -> Checkpoint:
        return Checkpoint(origin, self.size, merkle.subtree_root(0, self.size, self._full))

    def proof(self, seq: int) -> list[bytes]:
        ranges = merkle.inclusion_ranges(seq, self.size)
        return [merkle.subtree_root(lo, hi, self._full) for lo, hi in ranges]


@dataclass
class Shop:
    """A registry's log and key, and one person in it who said yes to some purposes."""

    size: int = MILLION
    first: int = 700_001
    purposes: Sequence[str] = tuple(Purpose)
    origin: str = "shop.example/log"
    person: str = "p-000041"
    simulated: bool = False

    def __post_init__(self) -> None:
        self.key = SigningKey.generate(self.origin)
        self.subject_key = secrets.token_bytes(32)
        self.log = SparseLog(self.size)
        for seq, purpose in enumerate(self.purposes, start=self.first):
            self.log.leaves[seq] = leaf(
                self.person, self.subject_key, purpose=purpose, simulated=self.simulated
            )
        self.seqs = sorted(self.log.leaves)
        # a neighbour in the log, who is someone else
        self.log.leaves[self.first - 1] = leaf("p-000042", secrets.token_bytes(32))
        self.checkpoint = self.signed(self.log.head(self.origin))

    def signed(self, head: Checkpoint, *more: SigningKey) -> str:
        return sign_checkpoint(head, self.key, *more, previous=None, proof=[])

    def entries(self) -> list[tuple[int, bytes, list[bytes]]]:
        return [(seq, self.log.leaves[seq], self.log.proof(seq)) for seq in self.seqs]

    def issue(self, **changes: Any) -> str:
        arguments: dict[str, Any] = {
            "person": self.person,
            "subject_key": self.subject_key,
            "entries": self.entries(),
            "checkpoint": self.checkpoint,
            "controller": PARTY,
            "notice": NOTICE,
            "registry_id": "5f0c" * 8,
            "simulated": self.simulated,
            "signer": self.key,
            "issued_at": datetime(2026, 3, 1, 9, 0, 1, tzinfo=UTC),
        }
        return issue_receipt(**(arguments | changes))


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


@pytest.fixture(scope="module")
def token(shop: Shop) -> str:
    return shop.issue()


# -- what it says ----------------------------------------------------------------------------------


def test_a_receipt_says_who_agreed_to_what_and_for_how_long(shop: Shop, token: str) -> None:
    # REQUIREMENTS 9 (27560 6.4): an id and a schema version. 19 (BIPA 15(b)): purpose and term.
    content = verify_receipt(token, [shop.key.verifying], origin=shop.origin)
    assert content.schema_version == "privemo.receipt/1"
    assert re.fullmatch("[0-9a-f]{32}", content.receipt_id)
    assert content.issued_at == datetime(2026, 3, 1, 9, 0, 1, tzinfo=UTC)
    assert (content.registry.id, content.registry.origin) == ("5f0c" * 8, shop.origin)
    assert content.registry.simulated is False
    assert content.controller == PARTY
    assert content.notice.hash == NOTICE.hash
    assert content.notice.withdrawal_method == NOTICE.withdrawal_method
    assert [event.purpose for event in content.events] == list(Purpose)
    assert {event.expires for event in content.events} == {datetime(2026, 6, 9, 9, tzinfo=UTC)}
    assert {event.person for event in content.events} == {shop.person}
    assert [event.seq for event in content.events] == shop.seqs


def test_bytes_are_as_good_as_text_and_every_receipt_has_its_own_id(shop: Shop, token: str) -> None:
    content = verify_receipt(token.encode(), [shop.key.verifying])
    other = verify_receipt(shop.issue(), [shop.key.verifying])
    assert content.receipt_id != other.receipt_id


def test_hashes_shared_by_neighbours_stand_once(shop: Shop, token: str) -> None:
    content = verify_receipt(token, [shop.key.verifying])
    assert sum(len(entry.path) for entry in content.entries) == 60
    assert len(content.proof) < 25


@pytest.mark.parametrize(
    ("size", "first", "purposes"),
    [(2, 1, 1), (4, 1, 3), (7, 4, 3), (2**20, 2**20 - 3, 3), (2**40 + 5, 2**40, 2)],
)
def test_logs_of_any_size(size: int, first: int, purposes: int) -> None:
    shop = Shop(size=size, first=first, purposes=tuple(Purpose)[:purposes])
    content = verify_receipt(shop.issue(), [shop.key.verifying])
    assert len(content.entries) == purposes


def test_the_checkpoint_may_be_signed_by_the_key_before_a_rotation(shop: Shop) -> None:
    new = SigningKey.generate(shop.origin)
    token = shop.issue(signer=new, known=[shop.key.verifying])
    assert verify_receipt(token, [new.verifying, shop.key.verifying]).person == shop.person
    with pytest.raises(SignatureError, match="no key that is known"):
        shop.issue(signer=new)


def test_a_witness_may_sign_beside_the_log(shop: Shop) -> None:
    witness = SigningKey.generate("witness.example")
    token = shop.issue(checkpoint=shop.signed(shop.log.head(shop.origin), witness))
    verify_receipt(token, [shop.key.verifying, witness.verifying])
    verify_receipt(token, [shop.key.verifying])


def test_simulated_people_have_simulated_receipts() -> None:
    shop = Shop(simulated=True)
    assert verify_receipt(shop.issue(), [shop.key.verifying]).registry.simulated is True


def test_a_name_in_any_script_signs() -> None:
    shop = Shop(origin="caf\u00e9.example/\u65e5\u8a8c", person='p \u00e9\n"\U0001f600')
    token = shop.issue()
    assert verify_receipt(token, [shop.key.verifying]).person == shop.person
    assert from_qr_text(qr_text(token)) == token


def test_secrets_and_people_stay_out_of_a_repr(shop: Shop, token: str) -> None:
    content = verify_receipt(token, [shop.key.verifying])
    for text in (repr(content), str(content)):
        assert shop.person not in text
        assert shop.subject_key.hex() not in text


@pytest.mark.parametrize(
    ("changes", "error", "reason"),
    [
        ({"person": "someone else"}, ProofError, "not of this receipt's person"),
        ({"person": ""}, MalformedError, "person"),
        ({"person": "\ud800"}, MalformedError, "no canonical form"),
        ({"subject_key": b"short"}, MalformedError, "32 bytes"),
        ({"subject_key": bytes(32)}, ProofError, "not of this receipt's person"),
        ({"entries": []}, MalformedError, "entries"),
        ({"simulated": True}, MalformedError, "simulated=False"),
        ({"notice": NOTICE.model_copy(update={"text": "other"})}, MalformedError, "another notice"),
        ({"issued_at": datetime(2026, 3, 1)}, MalformedError, "time zone"),
        ({"checkpoint": "none"}, MalformedError, "a note has"),
        ({"registry_id": ""}, MalformedError, "registry.id"),
        ({"signer": SigningKey.generate("other/log")}, SignatureError, "no key that is known"),
        ({"signer": SigningKey.generate("x" * 600)}, MalformedError, "header"),
    ],
)
def test_what_does_not_hold_is_not_issued(
    shop: Shop, changes: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        shop.issue(**changes)


def test_a_leaf_that_is_no_text_is_not_issued(shop: Shop) -> None:
    with pytest.raises(MalformedError, match="entry 700001"):
        shop.issue(entries=[(700_001, b"\xff", [])])


# -- who can verify it -----------------------------------------------------------------------------


def jwk(shop: Shop) -> dict[str, str]:
    x = base64.urlsafe_b64encode(shop.key.verifying.public).decode().rstrip("=")
    return {"kty": "OKP", "crv": "Ed25519", "x": x}


def altered(token: str) -> str:
    header, payload, signature = token.split(".")
    return ".".join(
        (header, payload[:-9] + ("A" if payload[-9] != "A" else "B") + payload[-8:], signature)
    )


def test_pyjwt_verifies_it(shop: Shop, token: str) -> None:
    jwt = pytest.importorskip("jwt")
    key = jwt.PyJWK(jwk(shop), algorithm="EdDSA")
    found = jwt.api_jws.decode(token, key, algorithms=["EdDSA"])
    assert json.loads(found)["person"] == shop.person
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.api_jws.decode(altered(token), key, algorithms=["EdDSA"])


def test_jwcrypto_verifies_it(shop: Shop, token: str) -> None:
    jws = pytest.importorskip("jwcrypto.jws")
    key = pytest.importorskip("jwcrypto.jwk").JWK(**jwk(shop))
    signed = jws.JWS()
    signed.deserialize(token, key, alg="EdDSA")
    assert json.loads(signed.payload)["person"] == shop.person
    with pytest.raises(jws.InvalidJWSSignature):
        jws.JWS().deserialize(altered(token), key, alg="EdDSA")


NODE = """
const {createPublicKey, verify} = require("node:crypto");
const [token, jwk] = process.argv.slice(1);
const [header, payload, signature] = token.split(".");
const key = createPublicKey({key: JSON.parse(jwk), format: "jwk"});
const data = Buffer.from(header + "." + payload);
console.log(verify(null, data, key, Buffer.from(signature, "base64url")));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_node_verifies_it(shop: Shop, token: str) -> None:
    def say(text: str) -> str:
        command = ["node", "-e", NODE, text, json.dumps(jwk(shop))]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert say(token) == "true"
    assert say(altered(token)) == "false"


def script() -> str:
    found = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def by_hand(tmp_path: Path, token: str, key: object) -> subprocess.CompletedProcess[str]:
    (tmp_path / "check_receipt.py").write_text(script())
    (tmp_path / "receipt.jws").write_text(token + "\n")
    command = [sys.executable, "-I", "check_receipt.py", "receipt.jws", str(key)]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)


@pytest.mark.parametrize(("size", "first"), [(MILLION, 700_001), (7, 4), (4, 1), (2**40, 5)])
def test_the_documented_script_verifies_it(tmp_path: Path, size: int, first: int) -> None:
    shop = Shop(size=size, first=first)
    done = by_hand(tmp_path, shop.issue(), shop.key.verifying)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()] == list(Purpose)


def test_the_documented_script_needs_nothing_of_privemo() -> None:
    imported = re.findall(r"^(?:import|from) (.+?)(?: import .*)?$", script(), re.MULTILINE)
    names = {name.split(".")[0] for line in imported for name in line.split(", ")}
    assert names - set(sys.stdlib_module_names) == {"cryptography"}
    lines = [line for line in script().splitlines() if line.strip()]
    assert len(lines) < 52


def resigned(shop: Shop, token: str, **changes: Any) -> str:
    """The receipt with other content under a signature that holds: what a bad registry can do."""
    header, payload, _ = token.split(".")
    pad = "=" * (-len(payload) % 4)
    content = json.loads(base64.urlsafe_b64decode(payload + pad)) | changes
    body = json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    text = header + "." + base64.urlsafe_b64encode(body).decode().rstrip("=")
    signature = base64.urlsafe_b64encode(shop.key.sign(text.encode())).decode().rstrip("=")
    return f"{text}.{signature}"


def test_the_documented_script_refuses_what_verify_receipt_refuses(
    tmp_path: Path, shop: Shop, token: str
) -> None:
    key = shop.key.verifying
    assert by_hand(tmp_path, resigned(shop, token), key).returncode == 0
    other = SigningKey.generate(shop.origin)
    larger = shop.log.head(shop.origin)
    forged = Checkpoint(shop.origin, 2 * larger.size, larger.root)
    content = verify_receipt(token, [key])
    for attack, reason in {
        altered(token): "signature is not this key's",
        resigned(shop, token, person="someone else"): "not this person's",
        resigned(shop, token, subject_key="00" * 32): "not this person's",
        resigned(shop, token, proof=content.proof[::-1]): "not in the log",
        resigned(shop, token, checkpoint=shop.signed(forged)): "not in the log",
        resigned(shop, token, checkpoint=SignedBy(other, larger)()): "signature is not this key's",
        resigned(shop, token, checkpoint="no head"): "cannot be read",
        resigned(shop, token, entries="none"): "cannot be read",
        "no receipt": "cannot be read",
    }.items():
        done = by_hand(tmp_path, attack, key)
        assert done.returncode == 1, reason
        assert reason in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


@pytest.mark.parametrize("key", ["garbage", "", "a+b", "a+00000000+AAAA", "a+00000000+!", "é+1+é"])
def test_the_documented_script_refuses_what_is_no_key_in_a_sentence(
    tmp_path: Path, token: str, key: str
) -> None:
    done = by_hand(tmp_path, token, key)
    assert (done.returncode, done.stdout) == (1, "")
    assert "NAME+ID+KEY" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_documented_script_finds_its_key_among_several_while_keys_are_changed(
    tmp_path: Path,
) -> None:
    with ConsentRegistry.create(
        tmp_path / "consent.sqlite", mode="production", controller=PARTY
    ) as registry:
        registry.notice(consent_notice())
        old = registry.ring.valid(registry.now())[0]
        new = registry.rotate_signing_key(overlap=timedelta(days=7))
        registry.grant("p", [Purpose.TRAINING], age_band=AgeBand.FROM_25, jurisdiction="IE",
                       notice=consent_notice(), valid_for=timedelta(days=30))  # fmt: skip
        note, token = registry.checkpoint(), registry.receipt("p")
    assert note.count(f"\n\u2014 {old.name} ") == 2  # one name, two keys
    done = by_hand(tmp_path, token, new)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ConsentGiven training until ")
    assert by_hand(tmp_path, token, old).stderr == "signed by another key\n"


@pytest.mark.parametrize("mine_first", [True, False])
def test_the_order_of_signatures_is_no_matter_to_the_documented_script(
    tmp_path: Path, shop: Shop, token: str, mine_first: bool
) -> None:
    other, head = SigningKey.generate(shop.origin), shop.log.head(shop.origin)
    keys = (shop.key, other) if mine_first else (other, shop.key)
    note = sign_checkpoint(head, *keys, previous=None, proof=[])
    done = by_hand(tmp_path, resigned(shop, token, checkpoint=note), shop.key.verifying)
    assert done.returncode == 0, done.stderr


@dataclass
class SignedBy:
    key: SigningKey
    head: Checkpoint

    def __call__(self) -> str:
        return sign_checkpoint(self.head, self.key, previous=None, proof=[])


# -- the QR code -----------------------------------------------------------------------------------


def scanned(pixels: np.ndarray) -> str:
    """What a scanner that others wrote reads in a picture."""
    zxing = pytest.importorskip("zxingcpp", reason="no QR scanner: pip install zxing-cpp")
    (found,) = zxing.read_barcodes(pixels)
    assert found.format == zxing.BarcodeFormat.QRCode
    return str(found.text)


def picture(path: Path) -> np.ndarray:
    image = pytest.importorskip("PIL.Image")
    with image.open(path) as opened:
        return np.asarray(opened.convert("L"))


def test_three_purposes_in_a_log_of_a_million_fit_into_one_code(token: str) -> None:
    segno = pytest.importorskip("segno")
    text = qr_text(token)
    code = segno.make_qr(text, error="l")
    assert code.mode == "alphanumeric"
    assert code.version == 31  # as the module's docstring says
    assert 2500 < len(text) < 2700
    with pytest.raises(segno.DataOverflowError):
        segno.make_qr(token)  # as it stands there is no room


def test_a_scanner_reads_the_receipt_off_the_picture(
    tmp_path: Path, shop: Shop, token: str
) -> None:
    qr_png(token, tmp_path / "receipt.png")
    text = scanned(picture(tmp_path / "receipt.png"))
    assert from_qr_text(text) == token
    assert verify_receipt(from_qr_text(text), [shop.key.verifying]).person == shop.person


def test_a_scanner_reads_it_off_a_bad_print(tmp_path: Path, token: str) -> None:
    qr_png(token, tmp_path / "receipt.png")
    clean = picture(tmp_path / "receipt.png").astype(float)
    noise = np.random.default_rng(3).normal(0, 12, clean.shape)
    soiled = np.clip(clean * 0.7 + 40 + noise, 0, 255).astype(np.uint8)
    soiled[200:212, 200:212] = 0
    assert from_qr_text(scanned(soiled)) == token


def test_the_svg_draws_the_code_of_the_png(token: str) -> None:
    segno = pytest.importorskip("segno")
    svg = qr_svg(token)
    root = ElementTree.fromstring(svg)  # noqa: S314
    code = segno.make_qr(qr_text(token), error="l", mode="alphanumeric")
    side = code.symbol_size(scale=4)[0]
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("width") == root.get("height") == str(side)
    assert root.get("viewBox") == f"0 0 {side} {side}"
    group = root[0]
    assert group[0].get("fill") == "#fff"  # behind the code, on a dark page too
    modules = side // 4
    assert group[0].get("d") == f"M0 0h{modules}v{modules}h-{modules}z"
    assert svg == qr_svg(token)
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_the_picture_is_for_its_owner_alone_and_overwrites_nothing(
    tmp_path: Path, token: str
) -> None:
    path = tmp_path / "receipt.png"
    qr_png(token, path)
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        qr_png(token, path)
    assert path.read_bytes() == before


def test_base45_is_that_of_rfc_9285() -> None:
    from privemo_consent.qr import _from_base45, _to_base45

    published = {
        b"AB": "BB8",
        b"Hello!!": "%69 VD92EX0",
        b"base-45": "UJCLQE7W581",
        b"ietf!": "QED8WEX0",
    }
    for data, text in published.items():
        assert _to_base45(data) == text
        assert _from_base45(text) == data
    for size in range(40):
        data = bytes(range(size, 2 * size))
        assert _from_base45(_to_base45(data)) == data


def test_a_receipt_too_large_for_a_code_says_so(shop: Shop) -> None:
    long = Party(id="shop-1", name="A", address=secrets.token_hex(4000), contact="c")
    token = shop.issue(controller=long)
    with pytest.raises(MalformedError, match="keep the receipt as a file"):
        qr_text(token)


def test_codes_that_were_printed_can_be_read_for_ever() -> None:
    assert PREFIX == "PRIVEMO1:"
    # Another dictionary makes every code on paper unreadable: it needs another prefix.
    assert (
        hashlib.sha256(DICTIONARY).hexdigest()
        == "59fd98772b0d452c02ed67f4299be8c12283d6d3c5a60a14d849f9a485aabee4"
    )


# -- what it needs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["joserfc", "segno"])
def test_without_its_library_it_says_what_to_install(missing: str) -> None:
    script = f"""
import sys
sys.modules[{missing!r}] = None
from privemo_consent import qr, receipttoken
assert "joserfc.jws" not in sys.modules and "segno.encoder" not in sys.modules
from privemo_consent.keys import SigningKey
try:
    receipttoken.sign_token(b"{{}}", SigningKey.generate("x"))
    qr._code(receipttoken.sign_token(b"{{}}", SigningKey.generate("x")))
except ModuleNotFoundError as error:
    assert "pip install {missing}" in str(error) and error.name == {missing!r}
else:
    raise SystemExit("no error")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
