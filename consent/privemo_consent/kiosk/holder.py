"""Whose a receipt is: asked of whoever comes back to the kiosk, or sits before a store's camera."""

from __future__ import annotations

from ..errors import ConsentError, MalformedError, UnknownPersonError
from ..qr import PREFIX, from_qr_text
from ..receipts import verify_receipt
from ..receipttoken import MAX_TOKEN_BYTES
from ..registry import ConsentRegistry
from .codes import person_of, read_code

__all__ = ["holder_of"]


def holder_of(registry: ConsentRegistry, presented: str) -> str:
    """Return the person id that a receipt, the text of its QR code, or a typed code leads to.

    Raises:
        UnknownPersonError: it leads to nobody; the message does not say why.

    """
    nobody = UnknownPersonError(
        "no record under this receipt: erased, of another registry, or mistyped"
    )
    # A blank counts in the text of a QR code, and nowhere else.
    line = presented.strip("\r\n\t")
    text = line if line.startswith(PREFIX) else "".join(line.split())
    if not text or len(text) > MAX_TOKEN_BYTES:
        raise nobody
    code = read_code(text)
    try:
        person = person_of(code) if code else _named_in(registry, text)
        known = bool(registry.history(person))
    except MalformedError:
        raise nobody from None
    if not known:
        raise nobody
    return person


def _named_in(registry: ConsentRegistry, text: str) -> str:
    """Return whose receipt this is, once it is found to be one of this registry."""
    token = from_qr_text(text) if text.startswith(PREFIX) else text
    keys = [p.key for p in registry.ring.periods if p.revoked is None]
    try:
        found = verify_receipt(token, keys)
    except ConsentError as error:
        raise MalformedError(type(error).__name__) from None
    if found.registry.id != registry.registry_id:
        raise MalformedError("a receipt of another registry")
    return found.person
