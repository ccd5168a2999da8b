"""The server's folder of a federation: the run as any other, and what Flower needs to serve it.

::

    CHAIN/
    ├── run.json, checkpoints/, rounds/   the run, as a simulation has it; no store's folder is here
    ├── tls/                              certificate and key of the server, and the authority
    ├── nodes/NAME.pub                    who may connect
    ├── invitations/NAME.json             to be carried to the stores
    ├── app/                              the Flower app, which only names privemo's own
    └── flower/                           Flower's configuration, written at each start, and state
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from privemo import weights as w
from privemo.config import RunSettings
from privemo.errors import SettingsError
from privemo.facts import new_federation_id, planned, privacy_facts, run_facts
from privemo.federation.authority import issue
from privemo.federation.earlier import remembered
from privemo.federation.identity import StoreCard
from privemo.federation.invitation import Agreement, Invitation
from privemo.files import appearing, write_bytes, write_json
from privemo.heard import write_earlier
from privemo.layout import agreed_facts, shares_noise
from privemo.patience import ROUND_TIMEOUT_S, checked
from privemo.runs import Orders, Run

__all__ = ["APP", "CONNECTION", "DEFAULT_PORT", "init_federation"]

DEFAULT_PORT = 9092
CONNECTION = "here"
"""What the server's folder calls the connection to its own SuperLink."""

APP = {
    "pyproject.toml": """\
[project]
name = "privemo-federation"
version = "0.1.0"
description = "Names the apps that privemo brings; nothing is installed at run time."
license = "Apache-2.0"
dependencies = ["flwr"]

[tool.flwr.app]
publisher = "privemo"

[tool.flwr.app.components]
serverapp = "privemo_federation.server:app"
clientapp = "privemo_federation.client:app"

[tool.flwr.app.config]
run-dir = ""
""",
    "privemo_federation/__init__.py": '"""The apps of a federation."""\n',
    "privemo_federation/server.py": "from privemo import server_app\n\napp = server_app.app\n",
    "privemo_federation/client.py": "from privemo import client_app\n\napp = client_app.app\n",
}
"""The Flower app of every federation: the very apps that a simulation runs."""


def init_federation(
    out: Path,
    cards: Sequence[StoreCard],
    settings: RunSettings,
    *,
    hosts: Sequence[str],
    port: int = DEFAULT_PORT,
    channels: int = 1,
    days: int = 365,
    round_timeout: float = ROUND_TIMEOUT_S,
    after: Path | None = None,
) -> Run:
    """Lay out the server's folder; it appears whole or not at all.

    Args:
        out: the folder to make; must not exist, or be empty.
        cards: of the stores that take part.
        settings: of the run: as many stores as cards, private, with a declared number of people and no seed
            (only stores of people who do not exist may be given one).
        hosts: names and addresses that stores reach the server by; the first is in the invitations.
        port: of the server.
        channels: of the pictures: 1 for gray, 3 for RGB.
        days: how long the server's certificate holds.
        round_timeout: seconds that a round waits for a store; the server's own, `server.json` keeps it.
        after: folder of the server of an earlier federation, from whose end stores' ledgers have to go on.

    Returns:
        The run.

    Raises:
        RunError: the folder holds something or cannot be written, or an earlier one is of other stores.
        SettingsError, BudgetUnreachable: the settings cannot be met.
    """
    _check(cards, settings, port)
    listen = {
        "schema": "privemo.server/1",
        "port": port,
        "hosts": list(hosts),
        "round_timeout": checked(round_timeout),
    }
    before = remembered(after, cards)
    names = sorted(card.name for card in cards)
    weights, origin = w.initial_weights(
        settings.init, model=settings.model, channels=channels, seed=settings.seed or 0
    )
    people = settings.declared_people
    if people is None:
        raise SettingsError("A federation declares the people of a store: set declared_people.")
    run_id = new_federation_id(settings)
    privacy = privacy_facts(settings, people)
    facts = run_facts(
        settings,
        names=names,
        data={"name": "with the stores", "faces": 0, "persons": 0, "origin": "the stores' vaults"},
        channels=channels,
        simulated=settings.seed is not None,
        engine="federation",
        run_id=run_id,
        people=people,
        privacy=privacy,
        weights=weights,
        origin=origin,
    )
    facts["roster"] = {card.name: card.signing_key for card in cards}
    Orders(settings, facts, run_id).check()
    agreement = _agreement(settings, facts, people)
    with appearing(out) as draft:
        write_json(draft / "run.json", facts)
        Run(draft).keep_start(weights)
        if before:
            write_earlier(draft, before)
        _write_server(draft, cards, agreement, listen, days)
    return Run(out)


def _check(cards: Sequence[StoreCard], settings: RunSettings, port: int) -> None:
    names = [card.name for card in cards]
    keys = [key for card in cards for key in (card.node_key, card.signing_key)]
    if settings.stores != len(cards):
        raise SettingsError(f"There are {len(cards)} cards for {settings.stores} stores.")
    if len(set(names)) != len(names) or len(set(keys)) != len(keys):
        raise SettingsError("Two cards are of one store, or have one key: each store has its own.")
    if settings.privacy is None:
        raise SettingsError("A federation of real stores trains with differential privacy.")
    if not 1 <= port <= 65_535:
        raise SettingsError(f"A port is 1 to 65535, not {port}.")


def _agreement(settings: RunSettings, facts: dict[str, Any], people: int) -> Agreement:
    agreed = agreed_facts(
        settings, people, str(facts["run_id"]), planned(settings, facts["privacy"])
    )
    return Agreement(**agreed, roster=facts["roster"] if shares_noise(settings) else {})


def _write_server(
    draft: Path,
    cards: Sequence[StoreCard],
    agreement: Agreement,
    listen: dict[str, Any],
    days: int,
) -> None:
    hosts, port = listen["hosts"], listen["port"]
    # Its own tools speak to the server on this machine.
    certificates = issue([*hosts, *({"localhost", "127.0.0.1"} - set(hosts))], days=days)
    write_bytes(draft / "tls" / "authority.pem", certificates.authority)
    write_bytes(draft / "tls" / "server.pem", certificates.server)
    write_bytes(draft / "tls" / "server.key", certificates.server_key)
    for name, text in APP.items():
        write_bytes(draft / "app" / name, text.encode())
    write_json(draft / "server.json", listen)
    for card in cards:
        write_bytes(draft / "nodes" / f"{card.name}.pub", f"{card.node_key}\n".encode())
        invitation = Invitation(
            store=card.name,
            signing_key=card.signing_key,
            address=f"{hosts[0]}:{port}",
            authority=certificates.authority.decode(),
            agreement=agreement,
        )
        write_json(
            draft / "invitations" / f"{card.name}.json",
            invitation.model_dump(mode="json", by_alias=True),
        )
