"""What the log's leaves say, and how they are read back: canonical JSON, no identifier in any.

A consent leaf names its person by ``subject``, an HMAC-SHA-256 over record id and person under a
random key of that person's own (REQUIREMENTS 23; GDPR 5(1)(c), 25). Two leaves of one person share
nothing, and without the key (destroyed by erasure) no leaf can be tied to a person, even by someone
who guesses the id.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable
from typing import Any

from .canonical import canonical_bytes, parse_canonical
from .errors import MalformedError
from .records import JURISDICTION, ConsentEvent
from .terms import ConsentStatus, Purpose, Role
from .times import from_us, iso, parse_iso

__all__ = [
    "CAUSES",
    "KEY_OPS",
    "KINDS",
    "PURPOSES",
    "ROLES",
    "STATUSES",
    "age_refusal_leaf",
    "columns",
    "consent_leaf",
    "erasure_leaf",
    "event_of",
    "exposure_leaf",
    "genesis_leaf",
    "key_leaf",
    "match_consent",
    "notice_leaf",
    "subject_tag",
]

_SCHEMA = "privemo.log/1"
KINDS = ("registry", "notice", "consent", "age_refusal", "key", "erasure", "exposure")
#: What a ``key`` entry can say: of a signing key, of an epoch of person keys, and (``moved``) that the
#: log goes on elsewhere under another name: the last entry of a registry that was closed.
KEY_OPS = ("begin", "revoke", "epoch", "forget", "moved")
#: Why a person was erased; ``restore``: a backup still held who had been erased after it was made.
CAUSES = ("request", "retention", "controller", "restore")
PURPOSES = tuple(Purpose)
STATUSES = tuple(ConsentStatus)
ROLES = tuple(Role)
_FIELDS: dict[str, frozenset[str]] = {
    "registry": frozenset(
        {"schema", "kind", "registry_id", "mode", "controller", "recorded_at", "simulated"}
    ),
    "notice": frozenset(
        {"schema", "kind", "notice", "notice_id", "version", "recorded_at", "simulated"}
    ),
    "consent": frozenset(),
    "age_refusal": frozenset(
        {"schema", "kind", "rule", "count", "jurisdiction", "day", "simulated"}
    ),
    "key": frozenset({"schema", "kind", "op", "key", "ends_others", "recorded_at", "simulated"}),
    "erasure": frozenset(
        {"schema", "kind", "record_id", "subject", "cause", "recorded_at", "simulated"}
    ),
    "exposure": frozenset({"schema", "kind", "notice", "place", "recorded_at", "simulated"}),
}
#: The first version's genesis named no key; its first key follows as an entry of its own.
_OPTIONAL = {"registry": frozenset({"key"})}
_VOCABULARY: dict[str, dict[str, tuple[str, ...]]] = {
    "key": {"op": KEY_OPS},
    "erasure": {"cause": CAUSES},
}


def subject_tag(key: bytes, record_id: str, person: str) -> str:
    """Return how the leaf of ``record_id`` names ``person``: 64 hexadecimal digits."""
    message = f"privemo.subject/1\0{record_id}\0{person}".encode()
    return hmac.digest(key, message, "sha256").hex()


def genesis_leaf(
    *, registry_id: str, mode: str, controller: str, key: str, recorded: int, simulated: bool
) -> bytes:
    """Return leaf 0, which pins what the registry is.

    ``controller`` is the party's SHA-256, ``key`` the first signing key as C2SP writes it.
    """
    return canonical_bytes(
        {
            "schema": _SCHEMA,
            "kind": "registry",
            "key": key,
            "registry_id": registry_id,
            "mode": mode,
            "controller": controller,
            "recorded_at": iso(recorded),
            "simulated": simulated,
        }
    )


def notice_leaf(
    *, notice: str, notice_id: str, version: int, recorded: int, simulated: bool
) -> bytes:
    """Return the leaf of a notice coming into force."""
    return canonical_bytes(
        {
            "schema": _SCHEMA,
            "kind": "notice",
            "notice": notice,
            "notice_id": notice_id,
            "version": version,
            "recorded_at": iso(recorded),
            "simulated": simulated,
        }
    )


def key_leaf(
    *, op: str, key: str, ends_others: int | None, recorded: int, simulated: bool
) -> bytes:
    """Return the leaf of a change of keys.

    Args:
        op: one of `KEY_OPS`.
        key: the signing key as C2SP writes it; ``epoch:N`` for an epoch of person keys; with
            ``moved`` the origin that the log had.
        ends_others: when the other signing keys stop counting; microseconds, with ``begin`` only.
        recorded: microseconds.
        simulated: of the registry.

    """
    return canonical_bytes(
        {
            "schema": _SCHEMA,
            "kind": "key",
            "op": op,
            "key": key,
            "ends_others": None if ends_others is None else iso(ends_others),
            "recorded_at": iso(recorded),
            "simulated": simulated,
        }
    )


def erasure_leaf(
    *, record_id: str, subject: str, cause: str, recorded: int, simulated: bool
) -> bytes:
    """Return the leaf of a person's erasure; once done nobody can tell whose it was (GDPR 17)."""
    return canonical_bytes(
        {
            "schema": _SCHEMA,
            "kind": "erasure",
            "record_id": record_id,
            "subject": subject,
            "cause": cause,
            "recorded_at": iso(recorded),
            "simulated": simulated,
        }
    )


def exposure_leaf(*, notice: str, place: str, recorded: int, simulated: bool) -> bytes:
    """Return the leaf of people being told that a system reads expressions (AI Act 50(3))."""
    return canonical_bytes(
        {
            "schema": _SCHEMA,
            "kind": "exposure",
            "notice": notice,
            "place": place,
            "recorded_at": iso(recorded),
            "simulated": simulated,
        }
    )


def age_refusal_leaf(
    *, rule: str, count: int, jurisdiction: str, day: int, simulated: bool
) -> bytes:
    """Return the leaf of people refused for their age: a count and a day (AADC 7, 9, 12)."""
    return canonical_bytes(
        {
            "schema": _SCHEMA,
            "kind": "age_refusal",
            "rule": rule,
            "count": count,
            "jurisdiction": jurisdiction,
            "day": iso(day)[:10],
            "simulated": simulated,
        }
    )


def consent_leaf(
    *,
    record_id: str,
    subject: str,
    purpose: str,
    status: str,
    at: str,
    recorded_at: str,
    expires: str | None,
    entity: str,
    role: str,
    jurisdiction: str,
    notice: str,
    simulated: bool,
) -> bytes:
    """Return the leaf of one change of state; times as `times.iso` writes them.

    Written by hand, keys in order, because bulk imports spend their time here; a property test
    holds it to `canonical_bytes`. No value needs escaping: each is of a form `_CONSENT` allows.
    """
    end = "null" if expires is None else f'"{expires}"'
    return (
        f'{{"age":"adult","at":"{at}","entity":"{entity}","expires":{end},'
        f'"jurisdiction":"{jurisdiction}","kind":"consent","notice":"{notice}",'
        f'"purpose":"{purpose}","record_id":"{record_id}","recorded_at":"{recorded_at}",'
        f'"role":"{role}","schema":"{_SCHEMA}","simulated":{"true" if simulated else "false"},'
        f'"status":"{status}","subject":"{subject}","type":"explicit"}}'
    ).encode()


def _any(values: Iterable[str]) -> str:
    return "|".join(map(re.escape, values))


_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
# The one form of a consent leaf: what matches is canonical, complete and within its vocabularies.
_CONSENT = re.compile(
    rf'\{{"age":"(?P<age>adult)","at":"(?P<at>{_TIME})","entity":"(?P<entity>data_subject|registry)",'
    rf'"expires":(?:null|"(?P<expires>{_TIME})"),"jurisdiction":"(?P<jurisdiction>{JURISDICTION})",'
    rf'"kind":"(?P<kind>consent)","notice":"(?P<notice>[0-9a-f]{{64}})",'
    rf'"purpose":"(?P<purpose>{_any(PURPOSES)})","record_id":"(?P<record_id>[0-9a-f]{{32}})",'
    rf'"recorded_at":"(?P<recorded_at>{_TIME})","role":"(?P<role>{_any(ROLES)})",'
    rf'"schema":"(?P<schema>{re.escape(_SCHEMA)})","simulated":(?P<simulated>true|false),'
    rf'"status":"(?P<status>{_any(STATUSES)})","subject":"(?P<subject>[0-9a-f]{{64}})",'
    r'"type":"(?P<type>explicit)"\}',
    re.ASCII,
)


def match_consent(leaf: bytes) -> re.Match[str] | None:
    """Return the match of a consent leaf, its fields as named groups; None for anything else."""
    try:
        return _CONSENT.fullmatch(leaf.decode("utf-8"))
    except UnicodeDecodeError:
        return None


def parse(leaf: bytes) -> dict[str, Any]:
    """Parse one leaf of the events log.

    Raises:
        MalformedError: not canonical, of an unknown kind, or with other fields than its kind has.

    """
    try:
        match = _CONSENT.fullmatch(leaf.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise MalformedError(f"not UTF-8: {error.reason}") from error
    if match is not None:
        found: dict[str, Any] = match.groupdict()
        found["simulated"] = found["simulated"] == "true"
        return found
    value = parse_canonical(leaf)
    kind = value.get("kind")
    if value.get("schema") != _SCHEMA or not isinstance(kind, str) or kind not in _FIELDS:
        raise MalformedError(f"got schema {value.get('schema')!r}, kind {kind!r}")
    if kind == "consent":
        raise MalformedError("a consent entry with fields missing, unknown or out of vocabulary")
    odd = (value.keys() ^ _FIELDS[kind]) - _OPTIONAL.get(kind, frozenset())
    if odd:
        raise MalformedError(
            f"kind {kind} with fields missing or unknown: {', '.join(sorted(odd))}"
        )
    if not isinstance(value["simulated"], bool):
        raise MalformedError("simulated is neither true nor false")
    for name, allowed in _VOCABULARY.get(kind, {}).items():
        if value[name] not in allowed:
            raise MalformedError(f"kind {kind} with {name} {value[name]!r}")
    return value


def columns(value: dict[str, Any]) -> dict[str, Any]:
    """Return the column values beside a leaf that `parse` read; ``notice`` stays a hash.

    Raises:
        MalformedError: the leaf is none that this package writes.

    """
    kind: str = value["kind"]
    found: dict[str, Any] = {"kind": KINDS.index(kind), "simulated": value["simulated"]}
    try:
        if kind == "consent":
            found["purpose"] = PURPOSES.index(value["purpose"])
            found["status"] = STATUSES.index(value["status"])
            found["role"] = ROLES.index(value["role"])
            found["at"] = parse_iso(value["at"])
            expires = value["expires"]
            found["expires"] = None if expires is None else parse_iso(expires)
            found["recorded"] = parse_iso(value["recorded_at"])
        elif kind == "age_refusal":
            found["at"] = parse_iso(f"{value['day']}T00:00:00.000000Z")
        else:
            found["at"] = found["recorded"] = parse_iso(value["recorded_at"])
    except ValueError as error:
        raise MalformedError(f"kind {kind}: {error}") from error
    found["notice"] = value.get("notice")
    return found


def event_of(leaf: bytes, *, person: str, seq: int) -> ConsentEvent:
    """Return the record a consent leaf stands for.

    Raises:
        MalformedError: it is not a consent leaf, or a field is out of its vocabulary.

    """
    value = parse(leaf)
    if value["kind"] != "consent":
        raise MalformedError(f"event {seq} is a {value['kind']} entry, no consent")
    for name in ("schema", "kind"):
        del value[name]
    for name in ("at", "recorded_at", "expires"):
        value[name] = None if value[name] is None else from_us(parse_iso(value[name]))
    return ConsentEvent(person=person, seq=seq, **value)  # pydantic's error is a ValueError
