"""The token that a receipt is: a compact JWS (RFC 7515), of one algorithm and one type.

``alg`` is ``EdDSA`` (RFC 8037): every JOSE library verifies it, and RFC 9864's ``Ed25519`` not yet.
RFC 9864 warns that ``EdDSA`` leaves the curve open; here the verifier's own key closes it.
"""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from .errors import MalformedError, SignatureError
from .keys import SigningKey, VerifyingKey

if TYPE_CHECKING:
    from joserfc.jwk import OKPKey
    from joserfc.jws import JWSRegistry

__all__ = [
    "ALGORITHM",
    "MAX_TOKEN_BYTES",
    "TYPE",
    "check_signature",
    "key_of",
    "kid",
    "read_token",
    "sign_token",
]

#: The one signature algorithm of receipts; a token that names another is refused unread.
ALGORITHM = "EdDSA"
#: RFC 8725 3.11: a type of its own, so that no other token of the same key passes as a receipt.
TYPE = "privemo-receipt+jwt"
MAX_TOKEN_BYTES = 65_536
_MAX_HEADER_BYTES = 512
_PART = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)


def read_token(token: str | bytes) -> tuple[str, dict[str, Any], bytes]:
    """Return a token's text, header and payload: well-formed, and not verified in any way.

    Raises:
        MalformedError: too large, or no compact JWS in the one way base64url is written.
    """
    if not isinstance(token, str | bytes):
        raise MalformedError(f"got {type(token).__name__}, want a receipt as text")
    if len(token) > MAX_TOKEN_BYTES:
        raise MalformedError(f"got a receipt of {len(token)} bytes, want at most {MAX_TOKEN_BYTES}")
    text = token.decode("ascii", "replace") if isinstance(token, bytes) else token
    parts = text.split(".")
    if len(parts) != 3:
        raise MalformedError(f"got {len(parts)} parts, want header.payload.signature (RFC 7515)")
    header, payload, _ = map(_decode, ("header", "payload", "signature"), parts)
    if len(header) > _MAX_HEADER_BYTES:
        raise MalformedError(f"got a header of {len(header)} bytes, want at most 512")
    try:
        fields = json.loads(header, object_pairs_hook=_fields)
    except (UnicodeError, json.JSONDecodeError, RecursionError):
        raise MalformedError("header: not JSON") from None
    if not isinstance(fields, dict):
        raise MalformedError("header: not a JSON object")
    return text, fields, payload


def _decode(name: str, part: str) -> bytes:
    # A second spelling of the same bytes would be a second token under one signature.
    if _PART.fullmatch(part) and len(part) % 4 != 1:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        if base64.urlsafe_b64encode(data).decode().rstrip("=") == part:
            return data
    raise MalformedError(f"the {name} is not base64url without padding (RFC 7515 section 2)")


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise MalformedError("header: a field stands twice")
    return dict(pairs)


def kid(key: VerifyingKey) -> str:
    """Return how tokens name a key."""
    return f"{key.name}+{key.key_id.hex()}"


def key_of(header: dict[str, Any], known: Sequence[VerifyingKey]) -> VerifyingKey:
    """Return the known key that a header names (RFC 8725 3.1: nothing in it is believed).

    Raises:
        SignatureError: another algorithm, or a key that is not known.
        MalformedError: a header with more or other fields, or two known keys of this name.
    """
    if header.get("alg") != ALGORITHM:
        # RFC 8725 3.1, 3.2: none, and HMAC under the public key, are the classic ways in.
        raise SignatureError(f"got algorithm {header.get('alg')!r:.40}, want {ALGORITHM!r}")
    odd = sorted(header.keys() - {"alg", "kid", "typ"})
    if odd:
        # jwk, jku, x5u, x5c would bring a key along (RFC 8725 3.10); crit asks for more than this
        raise MalformedError(f"header: got {odd[0]!r:.40}, want alg, kid and typ alone")
    if header.get("typ") != TYPE:
        raise MalformedError(f"header: got type {header.get('typ')!r:.40}, want {TYPE!r}")
    named = {key for key in known if kid(key) == header.get("kid")}
    if not named:
        raise SignatureError(f"signed by {header.get('kid')!r:.300}, which is no key that is known")
    if len(named) > 1:  # a key id has four bytes: two keys of one name can be made to share it
        raise MalformedError(f"two known keys are called {kid(next(iter(named)))}: leave one out")
    return named.pop()


def _jose(key: VerifyingKey, signer: SigningKey | None = None) -> tuple[JWSRegistry, OKPKey]:
    """Return what joserfc needs: rules that know one algorithm, and the public key.

    The private half is not handed over: with ``signer`` the algorithm's `sign` is the signer's.
    """
    try:
        from joserfc.jwk import OKPKey
        from joserfc.jws import JWSRegistry
    except ImportError as error:
        raise ModuleNotFoundError(
            "receipts need joserfc: pip install joserfc", name="joserfc"
        ) from error
    only = copy.copy(JWSRegistry.algorithms[ALGORITHM])
    only.security_warning = None  # the open curve of RFC 9864: closed by the key below
    if signer is not None:
        only.sign = lambda msg, key: signer.sign(msg)  # type: ignore[method-assign]
    registry = JWSRegistry(algorithms=[ALGORITHM])
    registry.algorithms = {ALGORITHM: only}  # the rest is not forbidden but absent
    x = base64.urlsafe_b64encode(key.public).decode().rstrip("=")
    return registry, OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": x})


def sign_token(payload: bytes, signer: SigningKey) -> str:
    """Return the token of a payload.

    Raises:
        MalformedError: no token can hold it.
        ModuleNotFoundError: joserfc is missing; the message says how to install it.
    """
    registry, key = _jose(signer.verifying, signer)
    from joserfc import errors, jws

    header = {"alg": ALGORITHM, "kid": kid(signer.verifying), "typ": TYPE}
    try:
        return jws.serialize_compact(cast("Any", header), payload, key, registry=registry)
    except errors.JoseError as error:
        raise MalformedError(f"no JWS can hold this receipt: {error}") from None


def check_signature(text: str, key: VerifyingKey) -> None:
    """Check the signature of a token.

    Raises:
        SignatureError: it is not of this key.
        MalformedError: no JWS.
        ModuleNotFoundError: joserfc is missing; the message says how to install it.
    """
    registry, public = _jose(key)
    from joserfc import errors, jws

    try:
        jws.deserialize_compact(text, public, registry=registry)
    except errors.BadSignatureError:
        raise SignatureError(f"{kid(key)}: bad signature") from None
    except errors.JoseError as error:
        raise MalformedError(f"no JWS: {error}") from None
