"""Steps of a secure sum that are the same whatever is summed, as Flower records."""

from __future__ import annotations

from collections.abc import Callable

from privemo import secure_protocol
from privemo.flower import RecordDict
from privemo.secure_store import SecureStore
from privemo.store import Store

__all__ = ["Answer", "later_steps"]

Answer = Callable[[RecordDict, Store], RecordDict]


def later_steps(part: Callable[[Store], SecureStore]) -> dict[str, Answer]:
    """What a store answers in steps 2, 4 and 5, by step.

    Args:
        part: of a store in the sum: of updates, or of counts.
    """

    def share(content: RecordDict, store: Store) -> RecordDict:
        session = secure_protocol.session_from(content)
        envelopes, seal = part(store).share(session, secure_protocol.adverts_from(content))
        return secure_protocol.envelopes_record(store.config.name, envelopes, seal)

    def confirm(content: RecordDict, store: Store) -> RecordDict:
        session = secure_protocol.session_from(content)
        signature = part(store).confirm(session, secure_protocol.names_from(content, "summed"))
        return secure_protocol.signature_record(store.config.name, signature)

    def reveal(content: RecordDict, store: Store) -> RecordDict:
        session = secure_protocol.session_from(content)
        shares = part(store).reveal(session, secure_protocol.bytes_from(content))
        return secure_protocol.reveal_record(store.config.name, shares)

    return {"share": share, "confirm": confirm, "reveal": reveal}
