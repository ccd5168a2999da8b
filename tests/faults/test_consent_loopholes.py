"""Ways around a promise that reviewers found, each tried again: they stay shut."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from privemo_consent import (
    ConsentGate,
    ConsentRegistry,
    Context,
    MalformedError,
    NoticeRefused,
    Purpose,
    Reason,
    TamperedError,
    TransitionRefused,
    verify_export,
)
from privemo_consent.storage import guards
from tests.support.consent import PARTY, consent_notice, grant, in_child, make_registry
from tests.support.notices import whole_notice

SHOP = Context(setting="retail", jurisdiction="IE")
TRAINING = Purpose.TRAINING


@pytest.fixture
def anybodys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A registry in a folder that its readers may not write."""
    folder = Path(tmp_path_factory.mktemp("shared"))
    path = make_registry(folder / "consent.sqlite")
    for file in [path, *path.with_suffix(".keys").iterdir()]:
        file.chmod(0o644 if file == path else 0o600)
    yield path
    folder.chmod(0o755)


def test_who_may_only_read_sees_a_withdrawal_of_another_process(anybodys: Path) -> None:
    """A file taken for immutable once would never change for whoever took it so."""

    def act() -> None:
        anybodys.parent.chmod(0o555)
        real, os.access = os.access, lambda *_: False  # root may write anything
        try:
            reader = ConsentRegistry.open(anybodys, mode="production", readonly=True)
            gate = ConsentGate(reader)
            assert gate.still_permitted(["p05"], TRAINING, SHOP).all()
        finally:
            os.access = real
        anybodys.parent.chmod(0o755)
        with ConsentRegistry.open(anybodys, mode="production") as kiosk:
            kiosk.withdraw("p05")
        anybodys.parent.chmod(0o555)
        os.access = lambda *_: False
        assert not gate.still_permitted(["p05"], TRAINING, SHOP).any()

    assert in_child(act) == 0


def test_a_date_is_no_way_round_an_end(tmp_path: Path) -> None:
    with ConsentRegistry.create(
        tmp_path / "r.sqlite", mode="production", controller=PARTY
    ) as registry:
        registry.notice(consent_notice())
        registry.grant_many([grant("ann", valid_for=timedelta(seconds=0.3))])
        before = registry.now()
        while registry.preview("ann", TRAINING, SHOP).permit:
            pass
        assert registry.decide("ann", TRAINING, SHOP, at=before).reason is Reason.EXPIRED
        assert registry.preview("ann", TRAINING, SHOP, at=before).reason is Reason.EXPIRED
        gate = ConsentGate(registry)
        assert not gate.still_permitted(["ann"], TRAINING, SHOP, at=before).any()


def test_a_consent_holds_where_its_notice_does(whole: Path) -> None:
    with ConsentRegistry.open(whole, mode="production") as registry:
        for place in ("FR", "US-IL", "ZZ"):
            elsewhere = Context(setting="retail", jurisdiction=place)
            answer = registry.decide("p05", TRAINING, elsewhere)
            assert answer.reason is Reason.WRONG_CONTEXT
            assert not ConsentGate(registry).still_permitted(["p05"], TRAINING, elsewhere).any()
        assert registry.decide("p05", TRAINING, SHOP).permit


def test_a_renewal_cannot_change_the_place(whole: Path) -> None:
    with ConsentRegistry.open(whole, mode="production") as registry:
        away = whole_notice(PARTY, 1, notice_id="away", jurisdictions=("US",))
        registry.notice(away)
        with pytest.raises(NoticeRefused, match="not for IE"):
            registry.renew("p05", notice=away)


def test_renewing_nothing_is_no_success(whole: Path) -> None:
    with ConsentRegistry.open(whole, mode="production") as registry:
        registry.withdraw("p05")
        with pytest.raises(TransitionRefused, match="use grant"):
            registry.renew("p05")


@pytest.mark.parametrize("person", [None, 42, b"ann-secret\xff"])
def test_what_is_no_id_is_refused_without_being_repeated(whole: Path, person: object) -> None:
    with (
        ConsentRegistry.open(whole, mode="production") as registry,
        pytest.raises(MalformedError) as caught,
    ):
        registry.decide(person, TRAINING, SHOP)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


def test_nobodys_id_is_in_a_repr(whole: Path) -> None:
    with ConsentRegistry.open(whole, mode="production") as registry:
        assert "p05" not in repr(registry.decide("p05", TRAINING, SHOP))
        assert "p05" not in repr(registry.history("p05"))


def forget_uses(path: Path) -> None:
    """Delete the log of uses, its tree and its heads, with SQL and without a trace in the schema."""
    with sqlite3.connect(path) as raw:
        for name in guards.triggers():
            raw.execute(f"DROP TRIGGER {name}")
        raw.execute("DELETE FROM uses")
        raw.execute("DELETE FROM nodes WHERE log = 1")
        raw.execute("DELETE FROM checkpoints WHERE log = 1")
        for sql in guards.triggers().values():
            raw.execute(sql)
    raw.close()


def test_the_log_of_uses_cannot_be_left_out(whole: Path) -> None:
    with ConsentRegistry.open(whole, mode="production") as registry:
        registry.withdraw("p07")  # the next head of events vouches for the uses before it
    forget_uses(whole)
    with (
        ConsentRegistry.open(whole, mode="production") as registry,
        pytest.raises(TamperedError) as caught,
    ):
        registry.verify()
    assert caught.value.entry == "use 0"


def test_an_export_cannot_leave_out_the_log_of_uses(whole: Path, tmp_path: Path) -> None:
    export = tmp_path / "export"
    with ConsentRegistry.open(whole, mode="production") as registry:
        registry.withdraw("p07")
        registry.export_log(export)
    assert verify_export(export).uses == 18
    cut = tmp_path / "cut"
    shutil.copytree(export, cut)
    for name in ("uses.jsonl", "uses.hashes", "uses-checkpoints.jsonl"):
        (cut / name).write_bytes(b"")
    (cut / "uses-checkpoint.txt").unlink()
    with pytest.raises(TamperedError) as caught:
        verify_export(cut)
    assert caught.value.entry == "use 0"
