"""Who a store is: two keys, made on its own machine and never sent anywhere.

The node key is what Flower's SuperLink knows a SuperNode by; with the signing key a store signs what other
stores must be able to check. What leaves the machine is a card with the two public halves.

| what lies in the folder | what `enroll` does |
|---|---|
| a card | keeps all of it |
| keys and no card: it was moved to the server, or lost | keeps the keys, and makes the same card of them |
| one of the two keys, from a crash or a loss | keeps it, and makes the other |
| a key that cannot be read | nothing: no key is ever written over |
| `store.json` of another name | nothing |
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from privemo.errors import RunError
from privemo.files import read_json, write_bytes, write_json
from privemo.statements import read_signing_key
from privemo.storeconfig import KEY_FILE, STORE_FILE

__all__ = ["CARD_FILE", "NODE_KEY_FILE", "StoreCard", "enroll", "keys_without_card"]

CARD_FILE, NODE_KEY_FILE = "card.json", "node.key"


class StoreCard(BaseModel):
    """The public side of a store: to be carried to whoever draws up the roster, by a way that both trust."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal["privemo.store-card/1"] = Field("privemo.store-card/1", alias="schema")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    node_key: str = Field(pattern=r"^ecdsa-sha2-nistp384 [A-Za-z0-9+/=]+$")
    """OpenSSH text of the node's public key (ECDSA, P-384)."""
    signing_key: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Public Ed25519 key, hex."""

    @classmethod
    def read(cls, path: Path) -> StoreCard:
        """Read a card.

        Raises:
            RunError: it is missing, or no card.
        """
        if not path.exists():
            raise RunError(
                f"{path} does not exist. Each store makes its own, and makes the same one again while it has "
                "its keys: privemo federation enroll STORE --name NAME"
            )
        content = read_json(path, schema="privemo.store-card/1")
        try:
            return cls(**content)
        except ValidationError as error:
            raise RunError(f"{path} is no store's card ({error.errors()[0]['msg']}).") from error


def enroll(folder: Path, name: str) -> StoreCard:
    """Make a store's keys and its card in `folder`, or what is missing of them; keys that are there stay.

    Args:
        folder: of the store.
        name: by which all others will know it.

    Raises:
        RunError: the folder is that of a store of another name, a key in it cannot be read, or it cannot be
            written.
    """
    card_path = folder / CARD_FILE
    if card_path.exists():
        card = StoreCard.read(card_path)
        _check_name(folder, card.name, name)
        return card
    if (joined := folder / STORE_FILE).exists():
        _check_name(folder, str(read_json(joined, schema="privemo.store/3")["name"]), name)
    kept = keys_without_card(folder)
    node = _node_key(folder) if NODE_KEY_FILE in kept else ec.generate_private_key(ec.SECP384R1())
    signing = read_signing_key(folder) if KEY_FILE in kept else Ed25519PrivateKey.generate()
    card = _card(name, node, signing)
    if NODE_KEY_FILE not in kept:
        private = node.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        write_bytes(folder / NODE_KEY_FILE, private)
    if KEY_FILE not in kept:
        write_bytes(folder / KEY_FILE, signing.private_bytes_raw())
    write_json(card_path, card.model_dump(mode="json", by_alias=True))  # last: it makes the store
    return card


def keys_without_card(folder: Path) -> list[str]:
    """Names of the keys in a folder that has no card: `enroll` will make one of them."""
    if (folder / CARD_FILE).exists():
        return []
    return [name for name in (NODE_KEY_FILE, KEY_FILE) if (folder / name).exists()]


def _check_name(folder: Path, known: str, name: str) -> None:
    if known != name:
        raise RunError(f"{folder} is the folder of {known}; choose another for {name}.")


def _card(name: str, node: ec.EllipticCurvePrivateKey, signing: Ed25519PrivateKey) -> StoreCard:
    node_key = node.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    try:
        return StoreCard(
            name=name,
            node_key=node_key.decode(),
            signing_key=signing.public_key().public_bytes_raw().hex(),
        )
    except ValidationError as error:
        raise RunError(
            f"{name!r} is no name of a store: up to 64 letters, digits, dots, - and _."
        ) from error


def _node_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    path = folder / NODE_KEY_FILE
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.key_size != 384:
            raise ValueError("of another kind")
    except (OSError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise RunError(
            f"{path} is no node's key ({error}). Restore it: the server knows the store by it. To have new "
            "keys, and a new run drawn up, take it out of the folder first."
        ) from error
    return key
