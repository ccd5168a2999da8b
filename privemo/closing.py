"""The end of a run: stores that took part sign the last round's manifest, and with it the finished model.

Rounds are chained, and each round's order makes stores sign the manifest before (ADR 0015). After the last
round nobody was asked any more, so whoever had the server's disk could put another model there. Now the
server shows the stores the end of the chain, and each signs it once:

| what a store is shown | what it does |
|---|---|
| a chain in which all that it signed stands, unbroken | signs, keeps `final.json`; the same again if asked |
| a chain that lacks or changes what it signed, or is of another run | signs nothing |
| another end than it signed before | signs nothing: one run has one end |
| a run in which it took no part | signs nothing |

`final.json` then tells the store's model from every other one (`check_model`).
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from privemo.errors import RunError, UpdateRejected
from privemo.files import read_json, write_json
from privemo.statements import STATEMENTS_FILE, canonical_hash, read_signing_key

__all__ = [
    "FINAL_FILE",
    "Closing",
    "check_model",
    "model_of",
    "needed_of",
    "sign_end",
    "signed_by",
    "signed_model",
    "took_part",
]

FINAL_FILE = "final.json"

_SIGNED_AS = b"privemo.closing/1\n"
_HEX = r"^[0-9a-f]{64}$"


class Closing(BaseModel):
    """What a store signs at the end of a run.

    Attributes:
        run_id, store: which store of which run.
        round: the last one.
        manifest: hash of its manifest.
        model: hash of the finished model, as the manifest names it.
        signature: of the store (Ed25519, hex) over the other fields.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal["privemo.closing/1"] = Field("privemo.closing/1", alias="schema")
    run_id: str = Field(max_length=64)
    store: str = Field(max_length=100)
    round: int = Field(ge=1, lt=2**53)
    manifest: str = Field(pattern=_HEX)
    model: str = Field(pattern=_HEX)
    signature: str = Field("", pattern=r"^([0-9a-f]{128})?$")

    def content(self) -> dict[str, Any]:
        """As JSON values."""
        return self.model_dump(mode="json", by_alias=True)

    def to_bytes(self) -> bytes:
        """What is signed (RFC 8785)."""
        said = self.content()
        del said["signature"]
        return _SIGNED_AS + rfc8785.dumps(said)

    def verify(self, roster: Mapping[str, bytes], last: Mapping[str, Any]) -> None:
        """Let it pass if its store signed this very end of the run.

        Args:
            roster: public key of each store.
            last: manifest of the last round.

        Raises:
            UpdateRejected: it is of no store of the roster, not signed by it, or of another end.
        """
        key = roster.get(self.store)
        if key is None:
            raise UpdateRejected(f"{self.store} is no store of this run")
        try:
            public = Ed25519PublicKey.from_public_bytes(key)
            public.verify(bytes.fromhex(self.signature), self.to_bytes())
        except InvalidSignature as error:
            raise UpdateRejected(f"{self.store} did not sign this end of the run") from error
        end = (last["run_id"], last["round"], canonical_hash(last), model_of(last))
        if (self.run_id, self.round, self.manifest, self.model) != end:
            raise UpdateRejected(f"{self.store} signed another end of the run")


def model_of(manifest: Mapping[str, Any]) -> str:
    """Hash of the model that a run ends with whose last round this is: the average, where there is one."""
    return str(manifest.get("model_average") or manifest["model_out"])


# -- on the server ---------------------------------------------------------------------------------


def needed_of(manifests: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """The end of a chain, from where every store that took part finds what it signed last.

    A store whose answer to a later or earlier round never came may need more, and says so (`EndNotShown`).

    Args:
        manifests: of all rounds, in order.

    Returns:
        Manifests in their one encoding (RFC 8785).
    """
    last = {
        name: position
        for position, manifest in enumerate(manifests)
        for name, entry in manifest["stores"].items()
        if entry.get("statement") is not None
    }
    return [rfc8785.dumps(dict(m)) for m in manifests[min(last.values(), default=-1) :]]


def signed_by(
    closings: Iterable[Mapping[str, Any]],
    roster: Mapping[str, bytes],
    last: Mapping[str, Any],
) -> dict[str, Closing]:
    """Read what stores signed at the end, by store.

    Raises:
        UpdateRejected: one of them does not hold.
    """
    found: dict[str, Closing] = {}
    for content in closings:
        try:
            closing = Closing.model_validate(dict(content))
        except (ValidationError, TypeError, ValueError) as error:
            raise UpdateRejected("a store's signature at the end is malformed") from error
        closing.verify(roster, last)
        found[closing.store] = closing
    return found


# -- in a store ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shown:
    """A manifest that a server shows."""

    hash: str
    content: dict[str, Any]


@lru_cache(maxsize=4)  # one process may hold all stores of a run, which are shown the same bytes
def _shown(data: bytes) -> _Shown:
    try:
        content = json.loads(data)
        if not isinstance(content, dict) or rfc8785.dumps(content) != data:
            raise RunError("A manifest comes in its one encoding.")
        number, stores = content["round"], content["stores"]
        well = isinstance(number, int) and all(isinstance(s, dict) for s in stores.values())
        links = (content["schema"], content["run_id"], content["prev"], model_of(content))
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise RunError("What was shown as the end of a run is no manifest.") from error
    if not well or links[0] != "privemo.round/2" or not all(isinstance(x, str) for x in links):
        raise RunError("What was shown as the end of a run is no manifest.")
    return _Shown(sha256(data).hexdigest(), content)


class EndNotShown(UpdateRejected):
    """What this store signed last lies before what it was shown: its answer never came to the server.

    Args:
        round_: from which on it has to see the rounds.
    """

    def __init__(self, round_: int) -> None:
        super().__init__(f"round {round_}, in which this store took part, is not shown")
        self.round = round_


def sign_end(folder: Path, name: str, run_id: str, manifests: Sequence[bytes]) -> Closing:
    """Sign the end of a run, once; keeps `final.json` first.

    Args:
        folder: of the store; holds its key and `statements.jsonl`.
        name: of the store.
        run_id: of the run that it agreed to.
        manifests: the end of the chain, as `needed_of` gives it.

    Raises:
        EndNotShown: what the store signed last lies before what was shown.
        UpdateRejected: this is not the end of what the store signed, or another one was signed before.
        RunError: what was shown is no chain, or `final.json` cannot be read or written.
    """
    chain = [_shown(data) for data in manifests]
    if not chain:
        raise RunError("The end of a run has a manifest at least.")
    _check_chain(chain, run_id)
    _check_mine(chain, name, _kept(folder / STATEMENTS_FILE, run_id))
    last = chain[-1]
    closing = Closing(
        run_id=run_id,
        store=name,
        round=last.content["round"],
        manifest=last.hash,
        model=model_of(last.content),
    )
    signature = read_signing_key(folder).sign(closing.to_bytes()).hex()
    signed = closing.model_copy(update={"signature": signature})
    with (folder / ".lock").open("a") as lock:  # or two ends that come at once were both the first
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = _final(folder)
        if before is None or before.run_id != run_id:
            write_json(folder / FINAL_FILE, signed.content())
        elif before != signed:
            raise UpdateRejected("another end of this run was signed before")
    return signed


def _check_chain(chain: Sequence[_Shown], run_id: str) -> None:
    if any(shown.content["run_id"] != run_id for shown in chain):
        raise UpdateRejected("it is the end of another run")
    for before, after in pairwise(chain):
        follows = after.content["round"] == before.content["round"] + 1
        if not follows or after.content["prev"] != before.hash:
            raise UpdateRejected("a round does not follow the one before")


def _check_mine(chain: Sequence[_Shown], name: str, kept: Sequence[dict[str, Any]]) -> None:
    if not kept:
        raise UpdateRejected("this store took no part")
    by_round = {shown.content["round"]: shown for shown in chain}
    newest = max(row["statement"]["round"] for row in kept)
    if newest not in by_round:
        raise EndNotShown(newest)
    for number, shown in by_round.items():
        mine = [row for row in kept if row["statement"]["round"] == number]
        if any(row["statement"]["history"] != shown.content["prev"] for row in mine):
            raise UpdateRejected(f"what came before round {number} is not what this store signed")
        entry = shown.content["stores"].get(name, {})
        said = {"statement": entry.get("statement"), "signature": entry.get("signature")}
        if said["statement"] is not None and not any(said.items() <= row.items() for row in mine):
            raise UpdateRejected(f"round {number} says of this store what it did not sign")


def _kept(path: Path, run_id: str) -> list[dict[str, Any]]:
    """What this store signed in the rounds of a run."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:  # torn when the power went
            continue
        if row["statement"]["run_id"] == run_id:
            rows.append(row)
    return rows


def _final(folder: Path) -> Closing | None:
    path = folder / FINAL_FILE
    if not path.exists():
        return None
    try:
        return Closing(**read_json(path, schema="privemo.closing/1"))
    except ValidationError as error:
        raise RunError(f"{path} is damaged; restore it from a backup.") from error


def signed_model(folder: Path, run_id: str) -> str | None:
    """Hash of the model that this store signed at the end of a run; None where it signed no end of it.

    Raises:
        RunError: what it signed is damaged.
    """
    final = _final(folder)
    return final.model if final is not None and final.run_id == run_id else None


def took_part(folder: Path, run_id: str) -> bool:
    """Whether this store did anything in the rounds of a run, whatever became of it."""
    return bool(_kept(folder / STATEMENTS_FILE, run_id))


def check_model(folder: Path, weights_sha256: str, *, run_id: str | None = None) -> Closing:
    """Let a model pass that is the one which this store signed at the end of its last run.

    Args:
        folder: of the store.
        weights_sha256: of the model (`privemo.weights.sha256`), as the card of an exported one states it too.
        run_id: that the model says it is of.

    Raises:
        UpdateRejected: it is another one.
        RunError: the store has signed no end of a run.
    """
    final = _final(folder)
    if final is None:
        raise RunError(
            f"{folder} has no {FINAL_FILE}: it has signed no end of a run, and cannot tell its model."
        )
    if run_id not in (None, final.run_id):
        raise UpdateRejected(
            f"This model is of run {run_id}, and {final.store} signed the end of run {final.run_id}. "
            "Do not use it."
        )
    if weights_sha256 != final.model:
        raise UpdateRejected(
            f"This model is {weights_sha256[:16]}..., and {final.store} signed {final.model[:16]}... at the "
            f"end of run {final.run_id}. Do not use it: ask the server for the run's own."
        )
    return final
