"""Face tables: what is read, what is refused, and that pixels stay sealed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from privemo.errors import DataError, SettingsError
from privemo.faces import FaceTable, load_faces
from tests.conftest import noise_faces


def save(path: Path, **changes: object) -> Path:
    columns = {**noise_faces(), **changes}
    np.savez(path, **{k: v for k, v in columns.items() if v is not None})
    return path


def test_reads_an_npz_file(npz: Path) -> None:
    table = load_faces(npz)
    assert len(table) == 80
    assert table.channels == 1
    assert table.person_source == "identity"
    assert len(set(table.face_id)) == 80
    assert set(table.columns) == {"identity", "age_band"}


def test_rgb_faces_have_three_channels(tmp_path: Path) -> None:
    gray = noise_faces()["images"]
    table = load_faces(save(tmp_path / "rgb.npz", images=np.stack([gray] * 3, axis=-1)))
    assert table.channels == 3


def test_labels_follow_the_names_and_not_their_order(tmp_path: Path) -> None:
    names = np.array(["surprise", "neutral", "sad", "Happy"])
    table = load_faces(save(tmp_path / "x.npz", label_names=names))
    assert table.label[:4].tolist() == [3, 2, 1, 0]


def test_no_attribute_of_a_table_or_of_sealed_faces_is_public_and_holds_pixels(npz: Path) -> None:
    table = load_faces(npz)
    for thing in (table, table.seal(np.arange(4))):
        for name in dir(thing):
            if not name.startswith("_"):
                value = getattr(thing, name)
                assert not (isinstance(value, np.ndarray) and value.dtype == np.uint8), name


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": None}, "lacks images"),
        ({"label_names": None}, "lacks label_names"),
        ({"images": np.zeros((80, 32, 32), np.uint8)}, r"shape \(80, 32, 32\)"),
        ({"images": np.zeros((80, 48), np.uint8)}, r"shape \(80, 48\)"),
        ({"images": np.zeros((80, 48, 48, 4), np.uint8)}, "expected"),
        ({"images": np.zeros((80, 48, 48), np.float32)}, "float32"),
        ({"images": np.zeros((0, 48, 48), np.uint8), "label": np.zeros(0, int)}, "holds no faces"),
        ({"label": np.zeros(79, int)}, "80 images but labels"),
        ({"label": np.full(80, 7)}, "label 7 has no name"),
        ({"label": np.full(80, -1)}, "label -1 has no name"),
        ({"label": np.full(80, 0.5)}, "whole numbers"),
        ({"label_names": np.array(["happy", "sad", "neutral", "angry"])}, "unknown labels 'angry'"),
        ({"identity": np.array(["a"])}, "'identity' has shape"),
        (
            {"age_band": np.array(["25_34", "25-34", "adult", "unknown"] * 20)},
            "unknown age bands '25-34', 'adult'; the bands are under_13, .*65_plus, unknown. Rename",
        ),
        ({"age_band": np.arange(80)}, "'0', '1', '10', '11', '12' and 75 more; the bands"),
    ],
)
def test_a_bad_npz_is_refused_with_what_is_wrong(
    tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        load_faces(save(tmp_path / "bad.npz", **changes))


def test_a_truncated_npz_is_refused(npz: Path) -> None:
    data = npz.read_bytes()
    for length in (0, 10, len(data) // 2, len(data) - 30):
        npz.write_bytes(data[:length])
        with pytest.raises(DataError, match="cannot be read"):
            load_faces(npz)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_faces(save(tmp_path / "p.npz", identity=np.array([{"a": 1}] * 80, dtype=object)))


@pytest.mark.parametrize("name", ["nowhere.npz", "faces.txt"])
def test_a_missing_or_unknown_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "faces.txt").write_text("no faces")
    with pytest.raises(DataError, match=name):
        load_faces(tmp_path / name)


def test_reads_a_csv_file(tmp_path: Path) -> None:
    path = tmp_path / "faces.csv"
    row = " ".join(["7"] * 2304)
    path.write_text(f"pixels,label,identity\n{row},sad,ann\n{row},happy,bob\n")
    table = load_faces(path)
    assert table.label.tolist() == [1, 0]
    assert table.person.tolist() == ["ann", "bob"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("pixels\n1 2\n", "lacks the column"),
        ("pixels,label\n", "holds no faces"),
        ("pixels,label\n1 2 3,sad\n", "line 2: 3 pixels"),
        (f"pixels,label\n{' '.join(['300'] * 2304)},sad\n", "300"),
        (f"pixels,label\n{' '.join(['x'] * 2304)},sad\n", "not a whole number"),
        (f"pixels,label\n{' '.join(['1'] * 2304)},rage\n", "unknown labels 'rage'"),
        (f"pixels,label,age_band\n{' '.join(['1'] * 2304)},sad,30s\n", "unknown age bands '30s'"),
        (f"pixels,label,age_band\n{' '.join(['1'] * 2304)},sad,\n", "'nan'.*write unknown where"),
    ],
)
def test_a_bad_csv_is_refused_with_the_line(tmp_path: Path, body: str, says: str) -> None:
    path = tmp_path / "faces.csv"
    path.write_text(body)
    with pytest.raises(DataError, match=says):
        load_faces(path)


def test_reads_a_folder(tmp_path: Path) -> None:
    for name in ("happy", "sad"):
        (tmp_path / "faces" / name).mkdir(parents=True)
        Image.new("L", (48, 48), 9).save(tmp_path / "faces" / name / "a.png")
    table = load_faces(tmp_path / "faces")
    assert table.label.tolist() == [0, 1]
    assert table.person_source == "row"


def test_a_bad_folder_is_refused_with_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    with pytest.raises(DataError, match="no subfolders"):
        load_faces(folder)
    (folder / "happy").mkdir()
    with pytest.raises(DataError, match="no images"):
        load_faces(folder)
    Image.new("L", (50, 48)).save(folder / "happy" / "wide.png")
    with pytest.raises(DataError, match=r"wide\.png is 50x48"):
        load_faces(folder)
    (folder / "happy" / "wide.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"wide\.png cannot be read"):
        load_faces(folder)


def test_an_unknown_column_is_named_with_those_there_are(npz: Path) -> None:
    with pytest.raises(DataError, match=r"no column 'skin'.*age_band"):
        load_faces(npz).column("skin")


def test_a_copied_photograph_stays_on_one_side_even_across_people(tmp_path: Path) -> None:
    # p0 and p1 share a copy, p1 and p2 another: all three belong together.
    dup = np.arange(80)
    dup[2], dup[4] = dup[0], dup[3]
    table = load_faces(save(tmp_path / "d.npz", dup_group=dup))
    assert len(set(table.split_group[:6])) == 1


def test_without_identities_a_dup_group_is_a_person(tmp_path: Path) -> None:
    dup = np.arange(80) // 4
    table = load_faces(save(tmp_path / "d.npz", identity=None, dup_group=dup))
    assert table.person_source == "dup_group"
    assert len(set(table.person)) == 20


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    fraction=st.floats(0.05, 0.95),
    stores=st.integers(1, 9),
    data=st.data(),
)
def test_no_person_is_on_two_sides_or_in_two_stores(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    fraction: float,
    stores: int,
    data: st.DataObject,
) -> None:
    images = data.draw(st.integers(1, 4))
    path = tmp_path_factory.mktemp("p") / "x.npz"
    np.savez(path, **noise_faces(people=12, images=images, seed=seed % 7))
    table = load_faces(path)
    train, test = table.split(fraction, seed=seed)
    assert not set(table.person[train]) & set(table.person[test])
    assert sorted([*train, *test]) == list(range(len(table)))
    parts = table.partition(train, stores, seed=seed)
    assert sorted(np.concatenate(parts)) == sorted(train)
    people = [set(table.person[part]) for part in parts]
    assert sum(map(len, people)) == len(set().union(*people))


def test_a_split_needs_a_fraction(npz: Path) -> None:
    with pytest.raises(SettingsError, match="between 0 and 1"):
        load_faces(npz).split(1.0, seed=0)


def test_the_digest_follows_the_content_and_not_the_compression(tmp_path: Path, npz: Path) -> None:
    np.savez_compressed(tmp_path / "z.npz", **noise_faces())
    assert load_faces(tmp_path / "z.npz").digest == load_faces(npz).digest
    assert load_faces(save(tmp_path / "y.npz", label=np.zeros(80, int))).digest != (
        load_faces(npz).digest
    )


def bands(table_bands: list[str], tmp_path: Path) -> FaceTable:
    columns = noise_faces(len(table_bands) // 2)
    columns["age_band"] = np.array(table_bands)
    np.savez(tmp_path / "b.npz", **columns)
    return load_faces(tmp_path / "b.npz")


def test_a_band_that_nobody_knows_is_no_answer_in_a_table_made_by_hand(tmp_path: Path) -> None:
    read = bands(["25_34"] * 4, tmp_path)
    given = np.array(["25_34", "adult", "35_44", "35_44"])
    people = replace(read, columns={"age_band": given}).band_of_people(np.arange(4))
    assert people is not None
    assert people.tolist() == ["unknown", "35_44"]


def test_one_face_that_is_a_childs_makes_the_person_a_child(tmp_path: Path) -> None:
    given = ["65_plus", "under_13", "35_44", "unknown", "25_34", "25_34", "35_44", "unknown"]
    table = bands(given, tmp_path)
    people = table.band_of_people(np.arange(8))
    assert people is not None
    assert people.tolist() == ["under_13", "unknown", "25_34", "unknown"]


def test_a_session_cannot_make_an_adult_of_a_child_in_the_table(tmp_path: Path) -> None:
    table = bands(["13_15", "13_15", "25_34", "25_34"], tmp_path)
    sealed = table.seal(np.arange(4), attested_age_band=np.array(["35_44"] * 3 + ["under_13"]))
    assert sealed.attested_age_band is not None
    assert sealed.attested_age_band.tolist() == ["13_15", "13_15", "35_44", "under_13"]


@pytest.mark.parametrize("name", ["age_band", "est_age", "identity", "dup_group"])
def test_a_column_that_decides_about_people_is_whole_or_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"'{name}' has shape"):
        load_faces(save(tmp_path / "s.npz", **{name: np.array("35_44")}))
