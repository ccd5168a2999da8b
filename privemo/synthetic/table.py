"""The table that a synthesis gives: pictures of people who do not exist, with what is true of each."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privemo.errors import PrivemoError
from privemo.labels import EMOTIONS
from privemo.synthetic.head import REGIONS
from privemo.synthetic.units import unit_names

__all__ = ["ORIGIN", "NotSaved", "SyntheticPeople"]

ORIGIN = "synthetic people, no person"
"""Value of the key `origin` in a saved file: says that consent of nobody is needed."""


class NotSaved(PrivemoError, OSError):
    """A file could not be written; nothing of it was left behind."""


@dataclass(frozen=True, eq=False)
class SyntheticPeople:
    """Pictures of people who do not exist; one row for each picture, people one after the other.

    Of the picture: `images` (n, s, s) or (n, s, s, 3) uint8; `label` (n,) int8, an index into `label_names`;
    `yaw`, `pitch`, `roll` (n,) float32 degrees; `light` (n,) str, where the main light comes from;
    `intensity` (n,) float32 in 0..1, the strength of the expression. Of the person, the same in all their
    pictures: `identity` (n,) str; `age` (n,) float32 years, exact; `age_band` (n,) str, a value of
    `privemo_consent.AgeBand`; `gender` (n,) str, the presentation: feminine, masculine or androgynous;
    `skin_tone` (n,) int8, Monk scale 1..10; `skin_tone_group` (n,) str: monk_1_3, monk_4_7, monk_8_10;
    `glasses` (n,) bool. When asked for: `regions` (n, s, s) uint8 indexes `region_names`; `mouth_opening`,
    `mouth_lift` (n,) float32, the gap between the lips and how far their corners are raised, in decimetres
    on a face of the base head's size; `units` (n, k) float32, how far each part of the face named in
    `unit_names` moves, both halves on average, and where the eyes look (`privemo.synthetic.units`).
    """

    images: NDArray[np.uint8]
    label: NDArray[np.int8]
    identity: NDArray[np.str_]
    age: NDArray[np.float32]
    age_band: NDArray[np.str_]
    gender: NDArray[np.str_]
    skin_tone: NDArray[np.int8]
    skin_tone_group: NDArray[np.str_]
    glasses: NDArray[np.bool_]
    yaw: NDArray[np.float32]
    pitch: NDArray[np.float32]
    roll: NDArray[np.float32]
    light: NDArray[np.str_]
    intensity: NDArray[np.float32]
    regions: NDArray[np.uint8] | None = None
    mouth_opening: NDArray[np.float32] | None = None
    mouth_lift: NDArray[np.float32] | None = None
    units: NDArray[np.float32] | None = None
    label_names: tuple[str, ...] = EMOTIONS
    region_names: tuple[str, ...] = REGIONS

    def __len__(self) -> int:
        return len(self.images)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all columns, `label_names` and `origin` to `path` as npz, whole or not at all.

        The file appears under its name only when it is complete and on the disk. Raises NotSaved.
        """
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        columns["label_names"] = np.array(self.label_names)
        columns["region_names"] = np.array(self.region_names)
        if self.regions is None:
            del columns["regions"], columns["region_names"]
        for name in ("mouth_opening", "mouth_lift", "units"):
            if columns[name] is None:
                del columns[name]
        if self.units is not None:
            columns["unit_names"] = np.array(unit_names())
        target = Path(path)
        draft = ""
        try:
            handle, draft = tempfile.mkstemp(
                dir=target.parent, prefix=f".{target.name}.", suffix=".part"
            )
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, origin=np.array(ORIGIN), **columns)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(draft, 0o666 & ~_umask())
            os.replace(draft, target)
        except OSError as error:
            raise NotSaved(
                f"{target} could not be written ({error.strerror or error}): choose a folder that "
                "exists, may be written to, and has room"
            ) from error
        finally:
            # After a successful replace the draft is gone; after anything else, Ctrl-C included, it goes.
            if draft and os.path.exists(draft):
                os.unlink(draft)


def _umask() -> int:
    """The process's file mode mask: mkstemp ignores it, a user's file should not."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
