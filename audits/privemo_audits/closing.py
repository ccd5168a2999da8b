"""What the stores signed at the end of a run: the last round's manifest, and with it the finished model.

Each round's order has stores sign the manifest before. The last one is named by no later round, so the server
shows it to the stores, and each that took part signs it once. A signature of another end is a fault; one that
is missing is told, for a store may have gone before the end. One that an earlier report knew of and that is
missing now is a fault: what was signed was taken away.
"""

from __future__ import annotations

from typing import Annotated, Literal

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field

from .report import Report, Violation
from .runfiles import Run, canonical_hash, read_model
from .runschema import Hex, Part, StoreName

__all__ = ["CLOSING", "End", "end_of"]

CLOSING = "rounds/closing.json"

_SIGNED_AS = b"privemo.closing/1\n"


class Closing(Part):
    """What one store signed."""

    schema_: Literal["privemo.closing/1"] = Field(alias="schema")
    run_id: str
    store: StoreName
    round: int = Field(ge=1)
    manifest: Hex
    model: Hex
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    def is_signed(self, key: str) -> bool:
        """Whether it was signed with this public key, hex."""
        said = self.model_dump(mode="json", by_alias=True)
        del said["signature"]
        try:
            public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
            public.verify(bytes.fromhex(self.signature), _SIGNED_AS + rfc8785.dumps(said))
        except (InvalidSignature, ValueError):
            return False
        return True


class Closings(Part):
    """`rounds/closing.json`."""

    schema_: Literal["privemo.closings/1"] = Field(alias="schema")
    closings: tuple[Closing, ...]


class End(Part):
    """Who signed the end of a run.

    Attributes:
        asked: the run is one whose stores are asked.
        signed: stores that signed the end that the run has.
        missing: stores that took part and did not.
        faults: signatures that do not hold, or are of another end.
    """

    asked: bool
    signed: tuple[StoreName, ...]
    missing: tuple[StoreName, ...]
    faults: tuple[Violation, ...]


def end_of(run: Run, earlier: Report | None = None) -> End:
    """Hold what stores signed at the end against the last round.

    Args:
        run: the run.
        earlier: a report of it made before: what it knew to be signed is due.

    Raises:
        RunFilesError: `rounds/closing.json` is torn, or not what its schema says.
    """
    rows: tuple[Closing, ...] = ()
    if (run.directory / CLOSING).is_file():
        rows = read_model(run, CLOSING, Closings).closings
    faults = tuple(
        Violation(kind="statement", store=row.store, round=row.round, person=None, detail=fault)
        for row in rows
        if (fault := _fault(run, row))
    )
    signed = {row.store for row in rows} - {fault.store for fault in faults}
    took_part = {
        name
        for item in run.rounds
        for name, did in item.stores.items()
        if did.statement is not None
    }
    whole = len(run.rounds) >= run.info.rounds
    missing = tuple(sorted(took_part - signed))
    return End(
        asked=run.info.closes and whole,
        signed=tuple(sorted(signed)),
        missing=missing,
        faults=(*faults, *_lost_since(earlier, run, len(signed), missing)),
    )


def _lost_since(
    earlier: Report | None, run: Run, signed: int, missing: tuple[str, ...]
) -> list[Violation]:
    """What an earlier report knew to be signed and is not there any more: no file beside these can know it.

    A report says whether all signed, and otherwise how many did: more may have signed since, never fewer.
    """
    if earlier is None or not missing:
        return []
    before = [check for check in earlier.checks if check.id == "manifests.end_signed"]
    if any(check.passed for check in before):
        lost = list(missing)
    elif any(signed < _how_many(check.evidence) for check in before):
        lost = [" + ".join(missing)]
    else:
        return []
    told = f"by an earlier report {CLOSING} had what was signed at the end, and it is gone"
    last = run.rounds[-1].round if run.rounds else None
    return [
        Violation(kind="statement", store=name, round=last, person=None, detail=told)
        for name in lost
    ]


def _how_many(evidence: str) -> int:
    """Stores that a report says to have signed the end: the number `modelchecks.end_checks` begins with."""
    number = evidence.partition(" ")[0].replace(",", "")
    return int(number) if number.isdecimal() else 0


def _fault(run: Run, row: Closing) -> str | None:
    if not row.is_signed(run.info.roster.get(row.store, "")):
        return "what it is said to have signed at the end is not signed with its key"
    if not run.rounds:
        return "it signed the end of a run that has no round"
    last = run.rounds[-1]
    end = (
        run.info.run_id,
        last.round,
        canonical_hash(run.said[f"rounds/{last.round:04d}.json"]),
        last.model_average or last.model_out,
    )
    if (row.run_id, row.round, row.manifest, row.model) != end:
        return "it signed another end of the run: the last round was changed afterwards"
    return None
