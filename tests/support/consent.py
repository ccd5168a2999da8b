"""Registries to break: small, whole, closed, with an entry of every kind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from privemo_consent import (
    AgeBand,
    ConsentRegistry,
    Context,
    Grant,
    NewItem,
    Notice,
    Party,
    Purpose,
    Role,
    Vault,
)
from tests.support.notices import whole_notice

PARTY = Party(id="shop-1", name="A Shop", address="1 Main Street", contact="privacy@example.org")


def consent_notice(version: int = 1) -> Notice:
    return whole_notice(PARTY, version)


def grant(person: str, **changes: object) -> Grant:
    fields: dict[str, object] = {
        "person": person,
        "purposes": (Purpose.TRAINING,),
        "age_band": AgeBand.FROM_25,
        "jurisdiction": "IE",
        "notice": consent_notice().hash,
        "valid_for": timedelta(days=100),
    }
    return Grant(**(fields | changes))  # type: ignore[arg-type]


def make_registry(path: Path, people: int = 20) -> Path:
    """Write a registry and close it, so that one file holds everything."""
    with ConsentRegistry.create(path, mode="production", controller=PARTY) as registry:
        registry.notice(consent_notice())
        registry.grant_many(
            [
                *(grant(f"p{i:02d}") for i in range(people)),
                grant("child", age_band=AgeBand.UNDER_13),
                grant("clerk", role=Role.EMPLOYEE),
            ]
        )
        registry.withdraw("p01")
        registry.renew("p02")
        for batch in range(18):
            registry.record_use(
                ["p02", "p03"],
                Purpose.TRAINING,
                run="run-1",
                round=1,
                store="store-01",
                batch=batch,
                log_seq=5,
            )
        item = NewItem(person="p04", item_id="f-1", body=bytes(48), facts={"estimated_age": 40.0})
        Vault(registry).put([item], Context(setting="retail", jurisdiction="IE"))
    assert not Path(f"{path}-wal").exists()
    return path


def in_child(act: Callable[[], None]) -> int:
    """Run ``act`` in a forked child; return its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


KILLED = -signal.SIGKILL
