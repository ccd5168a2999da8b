"""A registry moved whole: the same trees, other keys, whatever was in it."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    Notice,
    Party,
    Purpose,
    Reason,
)
from privemo_consent.copies.transfer import write_transfer
from privemo_consent.errors import (
    ConsentError,
)
from privemo_consent.vault import NewItem, Vault
from tests.support.notices import whole_notice
from tests.support.postgres import PostgresServer
from tests.unit.consent.conftest import MovableClock, Yes
from tests.unit.consent.transfer.moves import SHOP, TRAINING, USE, move


@pytest.mark.parametrize("passphrase", [None, b"correct horse"])
def test_everything_arrives(
    full: ConsentRegistry,
    clock: MovableClock,
    tmp_path: Path,
    yes: Yes,
    passphrase: bytes | None,
) -> None:
    with move(full, tmp_path / "new.sqlite", clock, passphrase) as moved:
        assert "cy" not in moved.persons()
        assert moved.decide("anna", TRAINING, SHOP).permit
        assert moved.decide("dora", TRAINING, SHOP).reason is Reason.WITHDRAWN
        moved.grant("eve", [TRAINING], **yes())  # type: ignore[arg-type]
        moved.erase("anna")
        moved.rotate_person_keys()
        moved.record_use(["ben"], TRAINING, batch=3, **USE)
        moved.verify()


def test_between_servers_and_files(
    full: ConsentRegistry, clock: MovableClock, postgres: PostgresServer, tmp_path: Path
) -> None:
    with (
        move(full, postgres.fresh(), clock) as there,
        move(there, postgres.fresh(), clock) as on,
        move(on, tmp_path / "back.sqlite", clock) as back,
    ):
        assert back.origin.endswith("/4")
        assert back.log_root(full.head().seq) == full.head().root


def test_people_are_sealed_under_other_keys(
    full: ConsentRegistry, clock: MovableClock, tmp_path: Path
) -> None:
    with move(full, tmp_path / "new.sqlite", clock) as moved:
        old, new = full.keys, moved.keys
        assert new.epoch == old.epoch == 2
        assert new.epochs == (2,), "epochs that never sealed anything are not kept"
        assert new.lookup_key(2) != old.lookup_key(2)
        assert new.wrap_key(2, 0) != old.wrap_key(2, 0)
        assert new.punctured(2), "an erased person's key does not exist there either"
        assert new.registry_key == old.registry_key
        assert not set(new.signers) & set(old.signers)


def test_a_sealed_file_shows_nothing(full: ConsentRegistry, tmp_path: Path) -> None:
    write_transfer(full, tmp_path / "open.jsonl", passphrase=None)
    write_transfer(full, tmp_path / "shut.jsonl", passphrase=b"secret words")
    secret = [b"anna", full.registry_id.encode(), full.keys.registry_key.hex().encode()]
    shown, hidden = (tmp_path / "open.jsonl").read_bytes(), (tmp_path / "shut.jsonl").read_bytes()
    assert [value in shown for value in secret] == [True] * 3
    assert [value in hidden for value in secret] == [False] * 3
    assert b"cy" not in shown.split(b'"line":"event"')[0].split(b'"line":"person"', 1)[1]
    for line in hidden.splitlines():
        json.loads(line)


PARTY = Party(id="c", name="Shop", address="1 Street", contact="c@example.org")
WHO = st.sampled_from(["p0", "p1", "p2", "é 漢"])
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), WHO, st.sampled_from(list(Purpose))),
        st.tuples(st.sampled_from(["withdraw", "erase", "use", "face", "renew"]), WHO, st.none()),
        st.tuples(st.sampled_from(["epoch", "signer", "minor", "notice"]), st.none(), st.none()),
    ),
    max_size=14,
)


def act_of(
    registry: ConsentRegistry, act: str, who: str, purpose: Purpose, notice: Notice, number: int
) -> None:
    row: dict[str, Any] = {"age_band": AgeBand.FROM_25, "jurisdiction": "IE", "notice": notice}
    acts: dict[str, Callable[[], object]] = {
        "grant": lambda: registry.grant(who, [purpose], **row),
        "minor": lambda: registry.grant("m", [TRAINING], **(row | {"age_band": AgeBand.FROM_13})),
        "notice": lambda: registry.notice(whole_notice(PARTY, notice.version + 1)),
        "use": lambda: registry.record_use([who], TRAINING, batch=number, **USE),
        "face": lambda: Vault(registry).put(
            [NewItem(person=who, item_id=str(number), body=bytes([number]))], SHOP
        ),
        "renew": lambda: registry.renew(who, notice=notice),
        "epoch": registry.rotate_person_keys,
        "signer": registry.rotate_signing_key,
        "withdraw": lambda: registry.withdraw(who),
        "erase": lambda: registry.erase(who),
    }
    acts[act]()


def perform(registry: ConsentRegistry, acts: list[tuple[str, Any, Any]]) -> None:
    """Do what can be done; what the rules refuse is left out."""
    for number, (act, who, purpose) in enumerate(acts):
        notice = registry.notices()[-1]
        with contextlib.suppress(ConsentError):
            act_of(registry, act, who, purpose, notice, number)


def round_trip(acts: list[tuple[str, Any, Any]], to: str | None, close: bool) -> None:
    folder = Path(tempfile.mkdtemp())
    now = [datetime(2026, 3, 1, tzinfo=UTC)]

    def clock() -> datetime:
        now[0] += timedelta(seconds=1)
        return now[0]

    try:
        with ConsentRegistry.create(
            folder / "r.sqlite", mode="production", controller=PARTY, clock=clock
        ) as registry:
            registry.notice(whole_notice(PARTY, 1))
            perform(registry, acts)
            with move(registry, to or folder / "new.sqlite", clock, close=close) as moved:
                perform(moved, acts)
                moved.verify()
    finally:
        shutil.rmtree(folder)


@given(ACTS, st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_registry_arrives_whole(acts: list[tuple[str, Any, Any]], close: bool) -> None:
    round_trip(acts, None, close)


@given(ACTS, st.booleans())
@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_registry_arrives_whole_on_a_server(
    postgres: PostgresServer, acts: list[tuple[str, Any, Any]], close: bool
) -> None:
    round_trip(acts, postgres.fresh(), close)
