"""The short code on a receipt, and the person id it leads to.

The code is drawn for one person, shown to that person and kept nowhere. The registry knows them under
a hash of it: whoever can list the ids of a registry can still not come back as anyone. A hundred random
bits need no salt and no slow hash, and no rate limit either; there is one all the same.
"""

from __future__ import annotations

import hashlib
import secrets

__all__ = ["draw_code", "person_of", "read_code"]

#: Crockford's base32: no I, L, O, U, so that nothing is misread from a screen or from handwriting.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 20  # 100 bits
_GROUP = 5
_MISREAD = str.maketrans("OIL", "011")


def draw_code() -> str:
    """Return a new code in four groups of five, as ``7K3MD-XQ2VH-9RT4B-W8NYC``."""
    drawn = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
    return "-".join(drawn[at : at + _GROUP] for at in range(0, _LENGTH, _GROUP))


def read_code(typed: str) -> str | None:
    """Return a typed code as it was drawn, or None where it is none.

    ====================================  =====================================================
    lower case, blanks, other dashes       as if typed well
    O for 0, I or L for 1                  read as the digit
    another length, another letter         None
    ====================================  =====================================================
    """
    plain = "".join(char for char in typed.upper() if char.isalnum()).translate(_MISREAD)
    if len(plain) != _LENGTH or not set(plain) <= set(_ALPHABET):
        return None
    return "-".join(plain[at : at + _GROUP] for at in range(0, _LENGTH, _GROUP))


def person_of(code: str) -> str:
    """Return the person id of a code as `draw_code` wrote it."""
    digest = hashlib.sha256(f"privemo kiosk code/1\n{code}".encode()).hexdigest()
    return f"kiosk-{digest[:40]}"
