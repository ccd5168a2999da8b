"""What a store answers when a model is measured, as Flower records; `privemo.client_app` registers it.

That it read its held-out people, or why not; counts with noise of its own, signed; and its part of a secure
sum of counts. No number of people is among it but under noise or mask.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from privemo import secure_protocol
from privemo import weights as w
from privemo.counting import noised_counts
from privemo.countrequest import CountRequest
from privemo.errors import (
    BudgetExhausted,
    LedgerError,
    NotMeasured,
    RunError,
    SecureSumError,
    SettingsError,
    TooFewPeople,
    UpdateRejected,
)
from privemo.flower import Array, ArrayRecord, ConfigRecord, RecordDict
from privemo.heldoutaccount import HeldOutAccount, budget_of
from privemo.measured import MeasureOrder, check_measured, measure
from privemo.protocol import ARRAYS, CONFIG
from privemo.secure_answers import Answer, later_steps
from privemo.secure_counts import SecureCounts
from privemo.secure_protocol import CONTENT
from privemo.statements import read_signing_key
from privemo.store import Store

__all__ = ["ANSWERS", "REQUEST", "counts_from", "measure_record", "request_record"]

REQUEST, COUNTS, SIGNATURE = "counts", "counts", "signature"

_SIGNED_AS = (
    b"privemo.counts/1\n"  # so that no signature of this key passes for another kind of text
)
_LONGEST = 1 << 24  # bytes of a file of counts

_REASONS: dict[type[Exception], str] = {
    BudgetExhausted: "budget_exhausted",
    LedgerError: "ledger_error",
    NotMeasured: "not_measured",
    SettingsError: "request_refused",
    SecureSumError: "not_agreed",
    TooFewPeople: "too_few_people",
}
"""What a store says, and no more, where it does not take part."""


def request_record(request: CountRequest) -> ConfigRecord:
    """A request as a flat record."""
    return ConfigRecord({REQUEST: json.dumps(request.content())})


def measure_record(order: MeasureOrder) -> ConfigRecord:
    """What is to be measured, as a flat record; the model comes beside it."""
    return ConfigRecord(
        {
            "run-id": order.run_id,
            "model": order.model,
            "flip": order.flip,
            "zoom": order.zoom,
            "threads": order.threads or 0,
        }
    )


def counts_from(content: RecordDict, roster: Mapping[str, bytes]) -> tuple[str, bytes]:
    """A store's name, and the file of counts that it signed.

    Args:
        content: of its answer.
        roster: public key of each store.

    Raises:
        RunError: the answer is malformed.
        UpdateRejected: it is of no store of the roster, or not signed by it.
    """
    name = secure_protocol.text_from(content, "store")
    record = content[CONTENT]
    data, signature = (record.get(key) for key in (COUNTS, SIGNATURE))
    if not isinstance(data, bytes) or not isinstance(signature, bytes) or len(data) > _LONGEST:
        raise RunError("a reply without signed counts")
    try:
        key = Ed25519PublicKey.from_public_bytes(roster[name])
        key.verify(signature, _SIGNED_AS + data)
    except KeyError as error:
        raise UpdateRejected("no such store takes part in this run") from error
    except InvalidSignature as error:
        raise UpdateRejected("its counts are not signed by this store") from error
    return name, data


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


def _order_from(content: RecordDict) -> tuple[w.Weights, MeasureOrder]:
    arrays, record = content.get(ARRAYS), content.get(CONFIG)
    if not isinstance(arrays, ArrayRecord) or not isinstance(record, ConfigRecord):
        raise RunError("An order to measure holds a model and says of which run.")
    values = [record.get(key) for key in ("run-id", "model", "flip", "zoom", "threads")]
    if list(map(type, values)) != [str, str, bool, float, int]:
        raise RunError("An order to measure is incomplete.")
    run_id, model, flip, zoom, threads = values
    order = MeasureOrder(
        str(run_id), str(model), bool(flip), int(str(threads)) or None, float(str(zoom))
    )
    return w.from_record(arrays), order


def _measure(content: RecordDict, store: Store) -> RecordDict:
    weights, order = _order_from(content)
    try:
        measure(store, weights, order)
    except tuple(_REASONS) as refusal:
        return _refused(store, refusal)
    return RecordDict({CONTENT: ConfigRecord({"store": store.config.name})})


def _count(content: RecordDict, store: Store) -> RecordDict:
    config = store.config
    try:
        request = request_from(content)
        if config.counts is None or config.roster:
            raise SettingsError(f"{config.name} agreed to no counts of its own.")
        config.counts.check(request)
        check_measured(store)
        account = HeldOutAccount(store, budget_of(store), releases=config.counts.releases)
        data = noised_counts(store, request, account)
    except tuple(_REASONS) as refusal:
        return _refused(store, refusal)
    signature = read_signing_key(store.folder).sign(_SIGNED_AS + data)
    said = ConfigRecord({"store": config.name, COUNTS: data, SIGNATURE: signature})
    return RecordDict({CONTENT: said})


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
    "measure": _measure,
    "count": _count,
    "advertise": _advertise,
    "mask": _mask,
    **later_steps(SecureCounts),
}
"""By step; each is a message `query.<step>`."""
