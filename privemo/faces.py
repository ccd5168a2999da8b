"""Face tables: reading them, splitting them by person, handing them out sealed.

A `FaceTable` knows who, where and what label, but gives nobody a pixel: `FaceTable.seal` wraps the
images in a `privemo_consent.SealedFaces`, and only a `privemo_consent.ConsentGate` opens those.

Three layouts are read:

* **npz** with `images` (n, 48, 48) or (n, 48, 48, 3) uint8, `label` (n,) and `label_names`;
* **csv** with a column `pixels` (2,304 gray values separated by spaces) and a column `label` (names);
* **folder** with one subfolder for each emotion, holding 48x48 images.

Optional columns: `identity` (the person), `dup_group` (faces of one group stay on one side of a
split), `est_age` (an age *estimate*, in years), `age_band` (what the person attested), and any
column named as a sensitive feature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privemo.errors import DataError, SettingsError
from privemo.labels import EMOTIONS, IMAGE_SIZE
from privemo_consent import AgeBand, SealedFaces

__all__ = ["FaceTable", "Faces", "load_faces"]

IntArray = NDArray[np.int64]
StrArray = NDArray[np.str_]

_NAMED = 5  # of unknown age bands: there may be as many as faces


@dataclass(frozen=True)
class Faces:
    """Faces that a gate let through.

    Attributes:
        images: uint8, (n, 48, 48) gray or (n, 48, 48, 3) RGB.
        label: int64, (n,), indices into `privemo.EMOTIONS`.
        person: (n,) pseudonymous ids.
        face_id: (n,) ids of the faces.
        columns: further columns, each of length n.
    """

    images: NDArray[np.uint8]
    label: IntArray
    person: StrArray
    face_id: StrArray
    columns: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: IntArray) -> Faces:
        """The faces of some rows."""
        return Faces(
            images=self.images[rows],
            label=self.label[rows],
            person=self.person[rows],
            face_id=self.face_id[rows],
            columns={name: column[rows] for name, column in self.columns.items()},
        )


@dataclass(frozen=True)
class FaceTable:
    """A table of faces whose pixels stay sealed.

    Attributes:
        name: file or folder name, without its path.
        digest: sha256 of the content, hex.
        label: int64, (n,), indices into `privemo.EMOTIONS`.
        person: (n,) pseudonymous ids; the unit of privacy.
        person_source: where `person` came from: `identity`, `dup_group`, or `row` (each face counts
            as a person of its own, the best that a table without identities allows).
        face_id: (n,) ids of the faces, unique.
        split_group: (n,) faces with the same number stay on one side of any split.
        columns: every further one-dimensional column of the table.
        origin: what the table says of where it came from; empty when it says nothing.
    """

    name: str
    digest: str
    label: IntArray
    person: StrArray
    person_source: str
    face_id: StrArray
    split_group: IntArray
    columns: Mapping[str, NDArray[np.generic]]
    origin: str
    _images: NDArray[np.uint8] = field(repr=False)

    def __len__(self) -> int:
        return len(self.label)

    @property
    def channels(self) -> int:
        """1 for gray, 3 for RGB."""
        return 1 if self._images.ndim == 3 else 3

    def column(self, name: str) -> NDArray[np.generic]:
        """The column `name`.

        Raises:
            DataError: the table has no such column.
        """
        if name not in self.columns:
            known = ", ".join(sorted(self.columns)) or "none"
            raise DataError(f"{self.name} has no column {name!r}; its further columns: {known}.")
        return self.columns[name]

    def seal(
        self, rows: IntArray, *, attested_age_band: StrArray | None = None
    ) -> SealedFaces[Faces]:
        """The faces of `rows`, for a gate to decide on and open.

        Args:
            rows: indices into this table.
            attested_age_band: (len(rows),) what each person said of their age in the session;
                the table's own `age_band` column when omitted.
        """
        if "age_band" in self.columns:
            own = self.columns["age_band"].astype(np.str_)[rows]
            if attested_age_band is None:
                attested_age_band = own
            else:  # whichever protects more: a session cannot make an adult of a child in the table
                stricter = _protection(own) > _protection(attested_age_band)
                attested_age_band = np.where(stricter, own, attested_age_band)
        age = self.columns.get("est_age")
        return SealedFaces(
            person=self.person[rows],
            face_id=self.face_id[rows],
            open_=lambda admitted: self._take(rows[admitted]),
            estimated_age=None if age is None else age.astype(np.float64)[rows],
            attested_age_band=attested_age_band,
        )

    def band_of_people(self, rows: IntArray) -> StrArray | None:
        """The age band of each person in `rows`, in the order of their sorted ids.

        Where a person's faces disagree, the band that protects most: a minor's, then unknown, then an
        adult's. None for a table without the column.
        """
        if "age_band" not in self.columns:
            return None
        bands = self.columns["age_band"].astype(np.str_)[rows]
        # `load_faces` refuses others; in a table that somebody made by hand they are no answer.
        bands = np.where(np.isin(bands, [b.value for b in AgeBand]), bands, AgeBand.UNKNOWN.value)
        _, who = np.unique(self.person[rows], return_inverse=True)
        strictest_first = np.lexsort((-_protection(bands), who))
        _, first = np.unique(who[strictest_first], return_index=True)
        return np.asarray(bands[strictest_first][first], dtype=np.str_)

    def _take(self, rows: IntArray) -> Faces:
        return Faces(
            images=self._images[rows],
            label=self.label[rows],
            person=self.person[rows],
            face_id=self.face_id[rows],
            columns={name: column[rows] for name, column in self.columns.items()},
        )

    def split(self, test_fraction: float, *, seed: int) -> tuple[IntArray, IntArray]:
        """Training rows and held-out rows; no person and no `dup_group` stands on both sides.

        Raises:
            SettingsError: `test_fraction` is not between 0 and 1.
        """
        if not 0.0 < test_fraction < 1.0:
            raise SettingsError(f"A test fraction lies between 0 and 1, not {test_fraction}.")
        held_out = self._draw_groups(seed) < test_fraction
        rows = np.arange(len(self), dtype=np.int64)
        return rows[~held_out], rows[held_out]

    def partition(self, rows: IntArray, stores: int, *, seed: int) -> list[IntArray]:
        """Share `rows` among `stores`; everything of a person goes to one store."""
        if stores < 1:
            raise SettingsError(f"A federation has at least one store, not {stores}.")
        order = self._draw_groups(seed + 1)[rows]
        groups, inverse = np.unique(order, return_inverse=True)
        store_of_group = np.arange(len(groups)) % stores
        return [rows[store_of_group[inverse] == store] for store in range(stores)]

    def _draw_groups(self, seed: int) -> NDArray[np.float64]:
        """One uniform number for each split group, repeated for its faces."""
        return np.random.default_rng(seed).random(int(self.split_group.max()) + 1)[self.split_group]


def _protection(bands: StrArray) -> IntArray:
    """How far an age band protects: 2 a minor's, 1 unknown or unreadable, 0 an adult's."""
    minor = np.isin(bands, [b.value for b in AgeBand if b.is_minor])
    adult = np.isin(bands, [b.value for b in AgeBand if b.is_adult])
    return np.where(minor, 2, np.where(adult, 0, 1)).astype(np.int64)


def load_faces(path: str | Path) -> FaceTable:
    """Read a face table from an npz file, a csv file or a folder.

    Raises:
        DataError: the file is missing, unreadable, truncated, of the wrong shape, empty, or carries
            labels other than the four emotions or age bands other than those of `privemo.AgeBand`. The
            message says which and what to do.
    """
    from privemo import _facefiles  # heavy readers only when a table is read

    path = Path(path)
    if not path.exists():
        raise DataError(f"{path} does not exist; give an npz file, a csv file or a folder.")
    if path.is_dir():
        raw = _facefiles.read_folder(path)
    elif path.suffix.lower() == ".csv":
        raw = _facefiles.read_csv(path)
    elif path.suffix.lower() == ".npz":
        raw = _facefiles.read_npz(path)
    else:
        raise DataError(f"{path} is neither an .npz file, a .csv file nor a folder.")
    return _table(path, raw)


def _table(path: Path, raw: dict[str, NDArray[np.generic]]) -> FaceTable:
    images = _checked_images(path, raw.pop("images"))
    n = len(images)
    label = _checked_labels(path, raw.pop("label"), raw.pop("label_names"), n)
    columns: dict[str, NDArray[np.generic]] = {}
    origin = ""
    for name, column in raw.items():
        if name == "origin":
            origin = str(column)
        elif name in ("identity", "dup_group", "est_age", "age_band"):
            if column.shape != (n,):
                raise DataError(
                    f"{path.name}: column {name!r} has shape {column.shape}, but there are {n} "
                    "images; give one value for each image."
                )
            columns[name] = column
        elif column.shape == (n,):
            columns[name] = column
    if "age_band" in columns:
        _check_bands(path, columns["age_band"])
    digest = _digest(images, label, columns)
    person_source = next((c for c in ("identity", "dup_group") if c in columns), "row")
    person = _person_ids(columns, person_source, n)
    return FaceTable(
        name=path.name,
        digest=digest,
        label=label,
        person=person,
        person_source=person_source,
        face_id=np.char.add(f"{digest[:8]}-", np.arange(n).astype(np.str_)),
        split_group=_connected(person, columns.get("dup_group")),
        columns=columns,
        origin=origin,
        _images=images,
    )


def _checked_images(path: Path, images: NDArray[np.generic]) -> NDArray[np.uint8]:
    gray, rgb = (IMAGE_SIZE, IMAGE_SIZE), (IMAGE_SIZE, IMAGE_SIZE, 3)
    if images.ndim not in (3, 4) or images.shape[1:] not in (gray, rgb):
        raise DataError(
            f"{path.name}: images have shape {images.shape}; expected (n, 48, 48) or (n, 48, 48, 3). "
            "Crop and resize the faces first."
        )
    if images.dtype != np.uint8:
        raise DataError(
            f"{path.name}: images have type {images.dtype}; expected uint8, values 0 to 255."
        )
    if len(images) == 0:
        raise DataError(f"{path.name} holds no faces.")
    return images.astype(np.uint8, copy=False)


def _checked_labels(
    path: Path, label: NDArray[np.generic], names: NDArray[np.generic], n: int
) -> IntArray:
    if label.shape != (n,):
        raise DataError(f"{path.name}: {n} images but labels of shape {label.shape}.")
    known = {name: index for index, name in enumerate(EMOTIONS)}
    given = [str(name).strip().lower() for name in np.atleast_1d(names)]
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise DataError(
            f"{path.name}: unknown labels {', '.join(map(repr, unknown))}; the four emotions are "
            f"{', '.join(EMOTIONS)}. Rename them, or leave those faces out."
        )
    if not np.issubdtype(label.dtype, np.integer):
        raise DataError(f"{path.name}: labels have type {label.dtype}; expected whole numbers.")
    index = label.astype(np.int64)
    if index.min() < 0 or index.max() >= len(given):
        bad = int(index.min() if index.min() < 0 else index.max())
        raise DataError(
            f"{path.name}: label {bad} has no name in label_names ({', '.join(given)})."
        )
    return np.array([known[name] for name in given], dtype=np.int64)[index]


def _check_bands(path: Path, column: NDArray[np.generic]) -> None:
    """Refuse bands that nobody knows: the gate would take them for no answer, and turn everyone away."""
    known = [band.value for band in AgeBand]
    unknown = sorted(set(column.astype(np.str_).tolist()) - set(known))
    if unknown:
        named = ", ".join(map(repr, unknown[:_NAMED])) + (
            f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
        )
        raise DataError(
            f"{path.name}: unknown age bands {named}; the bands are {', '.join(known)}. Rename them, and "
            f"write {AgeBand.UNKNOWN.value} where nobody stated an age."
        )


def _person_ids(columns: Mapping[str, NDArray[np.generic]], source: str, n: int) -> StrArray:
    if source == "row":
        return np.char.add("face-", np.arange(n).astype(np.str_))
    values = columns[source].astype(np.str_)
    return values if source == "identity" else np.char.add("group-", values)


def _connected(person: StrArray, dup_group: NDArray[np.generic] | None) -> IntArray:
    """Number the groups that a split may not tear apart: one person, and one `dup_group`."""
    _, who = np.unique(person, return_inverse=True)
    if dup_group is None:
        return who.astype(np.int64)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, copy = np.unique(dup_group, return_inverse=True)
    people, copies = int(who.max()) + 1, int(copy.max()) + 1
    edges = coo_array(
        (np.ones(len(who), dtype=np.int8), (who, people + copy)), shape=(people + copies,) * 2
    )
    _, component = connected_components(edges, directed=False)
    return np.asarray(component[who], dtype=np.int64)


def _digest(
    images: NDArray[np.uint8], label: IntArray, columns: Mapping[str, NDArray[np.generic]]
) -> str:
    """Content hash: the same faces give the same digest whatever the file's compression."""
    h = hashlib.sha256()
    parts: Sequence[tuple[str, NDArray[np.generic]]] = [
        ("images", images),
        ("label", label),
        *sorted(columns.items()),
    ]
    for name, array in parts:
        h.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
        h.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
    return h.hexdigest()
