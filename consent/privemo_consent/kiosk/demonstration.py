"""A simulated registry to try the kiosk with: notices in every language, and some people who do not exist."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from ..records import Notice, Party, Right
from ..registry import ConsentRegistry
from ..simulate import simulate_consents
from ..terms import Purpose
from .texts import LANGUAGES

__all__ = ["DEMO_JURISDICTION", "DEMO_NOTICE", "demo_notice", "make_demo_registry"]

DEMO_JURISDICTION = "IE"
DEMO_NOTICE = "kiosk-demonstration"
_PEOPLE = 40
_CONTROLLER = Party(
    id="demo-shop", name="Demo Shop", address="nowhere", contact="privacy@demo.invalid"
)
_AUTHORITY = Party(
    id="simulated-authority",
    name="Simulated Authority",
    address="nowhere",
    contact="nobody@authority.invalid",
    type="authority",
)


def demo_notice(language: str, controller: Party = _CONTROLLER) -> Notice:
    """Return the notice of the demonstration in one of `texts.LANGUAGES`; it says that it is one."""
    body = files(__package__).joinpath("demo", f"{language}.json").read_bytes()
    words = json.loads(body)
    text = words.pop("text").format(name=controller.name, contact=controller.contact)
    return Notice(
        notice_id=DEMO_NOTICE,
        version=1,
        language=language,
        text=text,
        controller=controller,
        purposes=tuple(Purpose),
        jurisdictions=(DEMO_JURISDICTION,),
        recipients="none",
        retention_days=365,
        representative="none",
        data_protection_officer="none",
        transfers="none",
        rights=tuple(Right),
        authority=_AUTHORITY,
        data_required=False,
        automated_decisions="none",
        **words,
    )


def make_demo_registry(folder: Path) -> ConsentRegistry:
    """Make a simulation registry in a folder and return it, open.

    Raises:
        RegistryExistsError: the folder holds one already.

    """
    registry = ConsentRegistry.create(
        folder / "demo.sqlite", mode="simulation", controller=_CONTROLLER
    )
    try:
        for language in LANGUAGES:
            registry.notice(demo_notice(language))
        registry.announce_reading(demo_notice("en"), place="the entrance of the demonstration")
        people = [f"demo-{number:03d}" for number in range(_PEOPLE)]
        simulate_consents(registry, people, seed=1, jurisdiction=DEMO_JURISDICTION)
    except BaseException:
        registry.close()
        raise
    return registry
