"""What protects a key folder beyond its permissions: nothing, a passphrase, or the OS keyring.

A root turns parameters that are not secret (they stand in ``folder.json``) into the 32 bytes under
which every file of the folder is sealed. Parameters are checked before they are used: who can
write ``folder.json`` can neither make the passphrase cheaper to guess nor exhaust the memory.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from ..errors import KeyFileError, MalformedError

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

__all__ = ["KINDS", "KeyringRoot", "NoRoot", "PassphraseRoot", "Root", "root_of"]

ROOT_BYTES = 32
KINDS = ("none", "passphrase", "keyring")
_SALT_BYTES = 16
# scrypt (RFC 7914) at OWASP's first choice: 128 MiB, about 0.4 s. More is read, up to 1 GiB.
_COST = {"n": 2**17, "r": 8, "p": 1}
_MOST_N = 2**20


class Root(Protocol):
    """Where the 32 bytes come from that open a key folder."""

    @property
    def kind(self) -> str:
        """One of `KINDS`, as ``folder.json`` names it."""

    def new_parameters(self, folder_id: str = "") -> dict[str, str | int]:
        """Choose parameters for a new folder. They are not secret."""

    def key(self, parameters: Mapping[str, object]) -> bytes | None:
        """Return the root key, or None where files rely on permissions alone.

        Raises:
            KeyFileError: the parameters are not as this version writes them, or there is no key.
        """


class NoRoot:
    """Files are as safe as their permissions: what a thief of the disk takes, he can read."""

    kind = "none"

    def new_parameters(self, folder_id: str = "") -> dict[str, str | int]:
        """Return nothing: there is nothing to choose."""
        del folder_id
        return {}

    def key(self, parameters: Mapping[str, object]) -> None:
        """Return None.

        Raises:
            KeyFileError: there are parameters, which this kind of root does not have.
        """
        if parameters:
            raise KeyFileError("folder.json: a folder without a root key has no parameters")


class PassphraseRoot:
    """The key is drawn from a passphrase by scrypt. It is as strong as the passphrase is long."""

    kind = "passphrase"
    __slots__ = ("_passphrase",)

    def __init__(self, passphrase: bytes) -> None:
        """Keep the passphrase.

        Raises:
            MalformedError: an empty one, or no bytes.
        """
        if not isinstance(passphrase, bytes) or not passphrase:
            raise MalformedError(
                "an empty passphrase protects nothing: give bytes, or another root"
            )
        self._passphrase = passphrase

    def new_parameters(self, folder_id: str = "") -> dict[str, str | int]:
        """Draw a salt."""
        del folder_id
        return {**_COST, "salt": secrets.token_hex(_SALT_BYTES)}

    def key(self, parameters: Mapping[str, object]) -> bytes:
        """Return the key, in about half a second.

        Raises:
            KeyFileError: a cost that is below ours or above 1 GiB, or a salt that is none.
        """
        n, r, p, salt = (parameters.get(name) for name in ("n", "r", "p", "salt"))
        if set(parameters) != {"n", "r", "p", "salt"} or type(n) is not int:
            raise KeyFileError("folder.json: the parameters of scrypt are n, r, p and salt")
        if not _COST["n"] <= n <= _MOST_N or n & (n - 1) or (r, p) != (_COST["r"], _COST["p"]):
            raise KeyFileError(
                f"folder.json: want scrypt with n from 2**17 to 2**20, r=8, p=1, got n={n}"
            )
        try:
            drawn = bytes.fromhex(cast("str", salt))
        except (TypeError, ValueError):
            raise KeyFileError("folder.json: the salt of scrypt is no hexadecimal text") from None
        if len(drawn) != _SALT_BYTES:
            raise KeyFileError(f"folder.json: the salt of scrypt is {_SALT_BYTES} bytes")
        return hashlib.scrypt(
            self._passphrase,
            salt=drawn,
            n=n,
            r=_COST["r"],
            p=_COST["p"],
            maxmem=128 * _COST["r"] * (n + 8),
            dklen=ROOT_BYTES,
        )

    def __repr__(self) -> str:
        return "PassphraseRoot(...)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a passphrase is neither copied nor sent")


class KeyringRoot:
    """The key is 32 random bytes that the operating system's keyring holds for this user."""

    kind = "keyring"

    def __init__(self, service: str = "privemo", account: str | None = None) -> None:
        """Name the entry; the account is the folder's id when it is not given."""
        self.service = service
        self.account = account

    def new_parameters(self, folder_id: str = "") -> dict[str, str | int]:
        """Draw the key, put it into the keyring, and read it back.

        Raises:
            KeyFileError: no keyring that is safe, an entry that exists, or one that cannot be made.
        """
        account = self.account or folder_id or secrets.token_hex(16)
        if self._read(account) is not None:
            raise KeyFileError(f"the keyring has {self.service}/{account}: never overwritten")
        drawn = secrets.token_hex(ROOT_BYTES)
        try:
            _keyring().set_password(self.service, account, drawn)
        except Exception as error:  # a backend may raise anything, with the secret in it
            raise KeyFileError(f"the keyring takes no entry: {type(error).__name__}") from None
        if self._read(account) != drawn:
            raise KeyFileError("the keyring did not keep what it was given: use another root")
        return {"service": self.service, "account": account}

    def key(self, parameters: Mapping[str, object]) -> bytes:
        """Return the key.

        Raises:
            KeyFileError: another service or account, no safe keyring, or no such entry.
        """
        account = parameters.get("account")
        if set(parameters) != {"service", "account"} or not isinstance(account, str):
            raise KeyFileError("folder.json: the parameters of a keyring are service and account")
        if parameters["service"] != self.service or self.account not in (None, account):
            raise KeyFileError(f"folder.json names another entry of the keyring: want {self!r}")
        held = self._read(account)
        if held is None:
            raise KeyFileError(f"the keyring has no {self.service}/{account}: log in as its owner")
        try:
            key = bytes.fromhex(held)
        except ValueError:
            key = b""
        if len(key) != ROOT_BYTES:
            raise KeyFileError(f"the keyring's {self.service}/{account} is no root key")
        return key

    def _read(self, account: str) -> str | None:
        backend = _keyring()
        try:
            return backend.get_password(self.service, account)
        except Exception as error:  # locked, cancelled, gone: every backend has its own
            raise KeyFileError(
                f"the keyring cannot be read ({type(error).__name__}): unlock it"
            ) from None

    def __repr__(self) -> str:
        return f"KeyringRoot({self.service}/{self.account or 'folder id'})"


def _keyring() -> KeyringBackend:
    """Return the user's keyring if it is one that protects.

    Raises:
        KeyFileError: the package is missing, there is no keyring, or it keeps plain text.
    """
    try:
        import keyring
    except ImportError:
        raise KeyFileError("the OS keyring needs a package: pip install privemo[keyring]") from None
    backend = keyring.get_keyring()
    # A chain falls through to its next backend, so each of them must do.
    for one in (backend, *getattr(backend, "backends", ())):
        place = f"{type(one).__module__}.{type(one).__qualname__}"
        if place.startswith(("keyring.backends.fail.", "keyring.backends.null.")):
            raise KeyFileError(
                "this system has no keyring (or none is unlocked): use a passphrase instead"
            )
        if "plaintext" in place.lower():
            raise KeyFileError(
                f"the keyring {place} keeps secrets in plain text: use a passphrase instead"
            )
    return backend


def root_of(kind: str, *, passphrase: bytes | None = None) -> Root:
    """Return the root of a kind, for a command line.

    Raises:
        MalformedError: an unknown kind, a passphrase that is missing or not asked for.
    """
    if kind not in KINDS:
        raise MalformedError(f"a root is one of {', '.join(KINDS)}: got {kind!r}")
    if kind == "passphrase":
        if passphrase is None:
            raise MalformedError("a root of kind passphrase needs one")
        return PassphraseRoot(passphrase)
    if passphrase is not None:
        raise MalformedError(f"a root of kind {kind} takes no passphrase")
    return NoRoot() if kind == "none" else KeyringRoot()
