"""``folder.json``: what a key folder is and what is under way in it. Nothing in it is secret.

It ends with a tag: a MAC under the root key where there is one, so that nobody adds a mirror of
his own or strikes one off, and a checksum where there is none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import KeyFileError
from .files import FOLDER_FILE
from .seal import Seal

__all__ = ["FolderRecord"]

_Epoch = Annotated[int, Field(ge=1)]
_Hex4 = Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
_Hex8 = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
_Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class FolderRecord(BaseModel):
    """The fields of ``folder.json``, without the tag."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    folder_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    root: str
    parameters: dict[str, str | int]
    #: the current epoch of person keys, and those that were destroyed
    epoch: _Epoch = 1
    forgotten: tuple[_Epoch, ...] = ()
    #: ids of the signing keys, and of those that were destroyed: they name files and prove nothing
    signers: tuple[_Hex4, ...] = ()
    gone: tuple[_Hex4, ...] = ()
    #: public halves of those that were destroyed; an id of four bytes can be met by search
    dropped: tuple[_Hex32, ...] = ()
    #: set in a copy that another folder keeps up to date
    mirror_of: str | None = None
    mirrors: tuple[str, ...] = ()
    #: mirrors that hold what was destroyed here, and mirrors that lack what is new
    pending: tuple[str, ...] = ()
    behind: tuple[str, ...] = ()
    #: rows that are being punctured in all epochs: begun, so to be finished
    puncturing: tuple[Annotated[int, Field(ge=0, lt=2**32)], ...] = ()
    #: where checkpoints of the log are copied to
    witness: str | None = None
    #: drawn anew whenever a change could not be told there; None once all was told
    witness_behind: _Hex8 | None = None

    def encode(self, seal: Seal) -> bytes:
        """Return the bytes of the file."""
        fields = self.model_dump(mode="json")
        tag = seal.tag(_json(fields))
        return _json({**fields, "tag": tag})

    @classmethod
    def decode(cls, data: bytes, folder: Path) -> FolderRecord:
        """Read the fields. Nothing vouches for them before `vouch`.

        Raises:
            KeyFileError: damaged, or of another version.
        """
        try:
            fields = json.loads(data)
            fields.pop("tag")
            return cls.model_validate_json(json.dumps(fields))
        except (ValueError, KeyError, AttributeError, TypeError, ValidationError, RecursionError):
            raise KeyFileError(
                f"{folder / FOLDER_FILE} is damaged, or of another version: restore it"
            ) from None

    def vouch(self, data: bytes, seal: Seal, folder: Path) -> None:
        """Check that ``data``, which was decoded, was written under this seal, to the byte.

        Raises:
            KeyFileError: it was not: another root key, or a change.
        """
        if self.encode(seal) != data:
            key = "" if self.root == "none" else f"another {self.root}, or "
            raise KeyFileError(f"{folder} cannot be opened: {key}{FOLDER_FILE} was changed")

    def change(self, **fields: object) -> FolderRecord:
        """Return the record with other values."""
        return self.model_copy(update=fields)

    def copy_for_mirror(self, owner: Path) -> FolderRecord:
        """Return what stands in a mirror of the folder ``owner``."""
        nothing = {"mirrors": (), "pending": (), "behind": (), "puncturing": ()}
        return self.change(mirror_of=str(owner), **nothing)


def _json(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, sort_keys=True, indent=1).encode() + b"\n"
