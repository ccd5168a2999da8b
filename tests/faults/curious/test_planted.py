"""What a curious server would find: each kind of secret, planted in real messages in every form."""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from privemo import weights as w
from privemo.flower import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from privemo.labels import EMOTIONS
from privemo.models import to_input
from privemo.protocol import update_of
from privemo.storeconfig import KEY_FILE
from tests.faults.curious.fields import kind_of, known, said_in
from tests.faults.curious.scene import Scene
from tests.support.disclosed import forms_of_count, search
from tests.support.eavesdrop import Heard


def _bytes(data: bytes) -> ConfigRecord:
    return ConfigRecord({"blob": data})


def _array(array: np.ndarray) -> ArrayRecord:
    return ArrayRecord({"batch": Array(np.ascontiguousarray(array))})


def _read(face: np.ndarray) -> np.ndarray:
    return to_input(torch.from_numpy(face[None])).numpy()


PLANTS: dict[str, tuple[str, Callable[[Scene], Any]]] = {
    # a picture
    "pixels": ("picture", lambda s: _bytes(s.face.tobytes())),
    "pixels in an array": ("picture", lambda s: _array(s.face)),
    "pixels as integers": ("picture", lambda s: _array(s.face.astype(np.int64))),
    "pixels as a list": ("picture", lambda s: ConfigRecord({"x": s.face.ravel().tolist()})),
    "pixels as a list of metrics": (
        "picture",
        lambda s: MetricRecord({"x": s.face.ravel().tolist()}),
    ),
    "pixels over 255": ("picture", lambda s: _array(s.face.astype(np.float32) / 255)),
    "mirrored": ("picture", lambda s: _array(s.face[:, ::-1])),
    "what the model reads": ("picture", lambda s: _array(_read(s.face))),
    "mirrored, what the model reads": ("picture", lambda s: _array(_read(s.face)[..., ::-1])),
    "half precision": ("picture", lambda s: _array(_read(s.face).astype(np.float16))),
    "the middle of a picture": ("picture", lambda s: _array(s.face[10:40, 10:40])),
    "base64 of pixels": (
        "picture",
        lambda s: ConfigRecord({"x": b64encode(s.face.tobytes()).decode()}),
    ),
    "compressed pixels": ("picture", lambda s: _bytes(zlib.compress(s.face.tobytes()))),
    "gzip in base64 in JSON": (
        "picture",
        lambda s: ConfigRecord(
            {"x": json.dumps({"y": b64encode(gzip.compress(s.face.tobytes())).decode()})}
        ),
    ),
    "a file of numpy": ("picture", lambda s: _bytes(Array(_read(s.face)).data)),
    # labels
    "labels of 1 byte": ("label", lambda s: _array(s.labels.astype(np.int8))),
    "labels of 8 bytes": ("label", lambda s: _array(s.labels)),
    "labels as real numbers": ("label", lambda s: _array(s.labels.astype(np.float32))),
    "some labels": ("label", lambda s: _array(s.labels[101:133])),
    "one-hot labels": ("label", lambda s: _array(np.eye(4, dtype=np.float32)[s.labels])),
    "one-hot labels as a list": (
        "label",
        lambda s: ConfigRecord({"y": np.eye(4)[s.labels].ravel().tolist()}),
    ),
    "a list of labels": ("label", lambda s: ConfigRecord({"y": s.labels.tolist()})),
    "labels as bytes": ("label", lambda s: _bytes(bytes(s.labels.tolist()))),
    "labels as text": ("label", lambda s: ConfigRecord({"y": str(s.labels.tolist())})),
    "names of labels": ("label", lambda s: ConfigRecord({"y": [EMOTIONS[i] for i in s.labels]})),
    "names of labels in JSON": (
        "label",
        lambda s: ConfigRecord({"y": json.dumps([EMOTIONS[i] for i in s.labels])}),
    ),
    # a count
    "num-examples": ("count", lambda s: MetricRecord({"num-examples": s.count})),
    "a count among metrics": ("count", lambda s: MetricRecord({"n": [0.5, float(s.count)]})),
    "a count as text": ("count", lambda s: ConfigRecord({"n": str(s.count)})),
    "a count in a sentence": (
        "count",
        lambda s: ConfigRecord({"n": f"trained on {s.count} faces"}),
    ),
    "a count in JSON": ("count", lambda s: _bytes(json.dumps({"n": {"m": s.count}}).encode())),
    "a count in the name of a field": ("count", lambda s: ConfigRecord({f"n-{s.count}": True})),
    **{
        f"a count as {form}": (
            "count",
            lambda s, form=form: _bytes(b"n=" + forms_of_count(s.count)[form] + b"\xff"),
        )
        for form in forms_of_count(257)
    },
    "a count in an array": ("count", lambda s: _array(np.array([3, s.count, 1], np.int16))),
    "a count in an array of reals": ("count", lambda s: _array(np.array([[0.1, s.count]]))),
    "counts by emotion": ("count", lambda s: _array(np.bincount(s.labels).astype(np.float32))),
    # a person
    "a pseudonym": ("person", lambda s: ConfigRecord({"who": s.person})),
    "a list of pseudonyms": ("person", lambda s: ConfigRecord({"who": ["x", s.person]})),
    "a pseudonym as the name of a field": ("person", lambda s: ConfigRecord({s.person: 1})),
    "a pseudonym in hex": ("person", lambda s: ConfigRecord({"who": s.person.encode().hex()})),
    "a pseudonym in base64": (
        "person",
        lambda s: ConfigRecord({"who": b64encode(b"x" + s.person.encode()).decode()}),
    ),
    "the bytes of a pseudonym": ("person", lambda s: _bytes(b"x" + bytes.fromhex(s.person[6:]))),
    "a pseudonym in an array": (
        "person",
        lambda s: _array(np.frombuffer(s.person.encode(), np.uint8)),
    ),
    "a hash of a pseudonym": (
        "person",
        lambda s: ConfigRecord({"who": sha256(s.person.encode()).hexdigest()}),
    ),
    "a hash of a pseudonym in bytes": (
        "person",
        lambda s: _bytes(sha256(s.person.encode()).digest()),
    ),
    # a key
    "the store's key": ("key", lambda s: _bytes(_key(s))),
    "the store's key in base64": (
        "key",
        lambda s: ConfigRecord({"k": b64encode(_key(s)).decode()}),
    ),
}
"""By what is planted in a message: what it tells, and the record."""


def _key(scene: Scene) -> bytes:
    return (scene.federated.stores / "store-01" / KEY_FILE).read_bytes()


def planted(one: Heard, record: Any) -> Heard:
    """The same with one more record."""
    content = RecordDict(dict(one.message.content))
    content["planted"] = record
    return replace(one, message=Message(content, reply_to=one.asked))


@pytest.mark.parametrize("scene", ["local"], indirect=True)
@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_is_found(scene: Scene, plant: str) -> None:
    what, make = PLANTS[plant]
    one = scene.of("query.measure")[0]
    found = search(planted(one, make(scene)).message, scene.secrets, opaque=known(one))
    assert what in {each.what for each in found}


def test_it_is_found_in_every_kind_of_message(scene: Scene) -> None:
    for one in {one.kind: one for one in scene.heard}.values():
        made = {
            name: record
            for plant in ("pixels", "labels of 8 bytes", "a count as >i", "a pseudonym")
            for name, record in [(plant, PLANTS[plant][1](scene))]
        }
        content = RecordDict({**one.message.content, **made})
        spoiled = replace(one, message=Message(content, reply_to=one.asked))
        found = search(spoiled.message, scene.secrets, opaque=known(one))
        assert {each.what for each in found} >= {"picture", "label", "count", "person"}, one.kind
        assert any(kind_of(one.kind, path) is None for path, _ in said_in(spoiled))


@pytest.mark.parametrize("scene", ["distributed"], indirect=True)
def test_what_is_hidden_among_masked_numbers_is_found(scene: Scene) -> None:
    one = scene.of("train.mask")[0]
    for what, hidden in (
        ("picture", np.frombuffer(scene.face.tobytes(), np.uint32)),
        ("count", np.array([scene.count], np.uint32)),
        ("label", scene.labels.astype(np.uint32)),
    ):
        numbers = one.message.content["vector"]["vector"].numpy().copy()
        numbers[1000 : 1000 + len(hidden)] = hidden
        content = RecordDict(
            {**one.message.content, "vector": ArrayRecord({"vector": Array(numbers)})}
        )
        found = search(Message(content, reply_to=one.asked), scene.secrets, opaque=known(one))
        assert what in {each.what for each in found}


@pytest.mark.parametrize("scene", ["local"], indirect=True)
def test_what_is_hidden_in_an_update_is_found(scene: Scene) -> None:
    """In a file of weights: among the numbers, or beside them in its header."""
    one = scene.of("train")[0]
    update = update_of(one.message.content)
    assert update is not None
    name = max(update, key=lambda n: update[n].size)
    update[name].ravel()[5 : 5 + 48 * 48] = _read(scene.face).ravel()
    beside = save(update, metadata={"n": str(scene.count)})
    for what, data in (("picture", w.to_bytes(update)), ("count", beside)):
        record = ArrayRecord({"safetensors": Array(np.frombuffer(data, np.uint8))})
        content = RecordDict({**one.message.content, "update": record})
        found = search(Message(content, reply_to=one.asked), scene.secrets, opaque=known(one))
        assert what in {each.what for each in found}
