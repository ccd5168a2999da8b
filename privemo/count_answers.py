"""What a store answers in a secure sum of counts, as Flower records; `privemo.client_app` registers it."""

from __future__ import annotations

import json

from privemo import secure_protocol
from privemo.countrequest import CountRequest
from privemo.errors import BudgetExhausted, LedgerError, RunError, SecureSumError, SettingsError
from privemo.flower import Array, ArrayRecord, ConfigRecord, RecordDict
from privemo.protocol import CONFIG
from privemo.secure_answers import Answer, later_steps
from privemo.secure_counts import SecureCounts
from privemo.store import Store

__all__ = ["ANSWERS", "REQUEST", "request_record"]

REQUEST = "counts"

_REASONS: dict[type[Exception], str] = {
    BudgetExhausted: "budget_exhausted",
    LedgerError: "ledger_error",
    SettingsError: "request_refused",
    SecureSumError: "not_agreed",
}
"""What a store says, and no more, where it does not take part."""


def request_record(request: CountRequest) -> ConfigRecord:
    """A request as a flat record."""
    return ConfigRecord({REQUEST: json.dumps(request.content())})


def request_from(content: RecordDict) -> CountRequest:
    """Read a request.

    Raises:
        RunError: there is none.
        SettingsError: it is none that anybody could agree to.
    """
    record = content.get(CONFIG)
    text = record.get(REQUEST) if isinstance(record, ConfigRecord) else None
    try:
        said = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise RunError("A request for counts came without what to count.")
    return CountRequest.of(said)


def _advertise(content: RecordDict, store: Store) -> RecordDict:
    session = secure_protocol.session_from(content)
    try:
        advert = SecureCounts(store).advertise_counts(request_from(content), session)
    except tuple(_REASONS) as refusal:
        return _refused(store, refusal)
    return secure_protocol.advert_record(store.config.name, advert)


def _mask(content: RecordDict, store: Store) -> RecordDict:
    try:
        masked = SecureCounts(store).mask_counts(
            secure_protocol.session_from(content),
            request_from(content),
            secure_protocol.bytes_from(content),
        )
    except tuple(_REASONS) as refusal:
        return _refused(store, refusal)
    named = ConfigRecord({"store": store.config.name})
    vector = ArrayRecord({secure_protocol.VECTOR: Array(masked)})
    return RecordDict({secure_protocol.CONTENT: named, secure_protocol.VECTOR: vector})


def _refused(store: Store, refusal: Exception) -> RecordDict:
    reason = next(r for kind, r in _REASONS.items() if isinstance(refusal, kind))
    return secure_protocol.refusal_record(store.config.name, reason)


ANSWERS: dict[str, Answer] = {
    "advertise": _advertise,
    "mask": _mask,
    **later_steps(SecureCounts),
}
"""By step; each is a message `query.<step>`."""
