"""Who a store is, what it agrees to, and what the server's folder holds; processes are a matter of their
own."""

from __future__ import annotations

import json
import socket
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.verification import (
    DNSName,
    IPAddress,
    PolicyBuilder,
    Store,
    VerificationError,
)
from typer.testing import CliRunner

from privemo.cli import app
from privemo.config import PrivacySettings, RunSettings
from privemo.counted import request_of
from privemo.countterms import CountTerms
from privemo.driving import driving
from privemo.errors import BudgetExhausted, RunError, RunInterrupted, SettingsError
from privemo.federation import asking, superlink
from privemo.federation.asking import run_counts, run_rounds
from privemo.federation.authority import issue
from privemo.federation.identity import StoreCard, enroll
from privemo.federation.invitation import Invitation, join
from privemo.federation.server import init_federation
from privemo.federation.superlink import online_nodes, serve, stop
from privemo.federation.supernode import serve_store
from privemo.patience import IN_ALL_S, ROUND_TIMEOUT_S, round_timeout
from privemo.runs import Run
from privemo.store import Store as PrivemoStore
from privemo.storeconfig import StoreConfig
from privemo_consent import ConsentRegistry
from tests.support.consent import PARTY

NAMES = ("amber", "birch", "cedar")


def settings(**changes: Any) -> RunSettings:
    privacy = PrivacySettings(epsilon=8.0, sample_rate=0.5, noise="distributed", may_drop=0.4)
    made = {
        "stores": 3,
        "rounds": 2,
        "steps_per_round": 1,
        "privacy": privacy,
        "declared_people": 10,
        "model": "gray-cnn",
        "init": "scratch",
    }
    return RunSettings.of(**{**made, **changes})


def stores(folder: Path) -> list[StoreCard]:
    return [enroll(folder / name, name) for name in NAMES]


def registry(folder: Path, mode: str = "production") -> None:
    ConsentRegistry.create(folder / "consent.sqlite", mode=mode, controller=PARTY).close()


@pytest.fixture
def chain(tmp_path: Path) -> Run:
    cards = stores(tmp_path)
    return init_federation(
        tmp_path / "chain", cards, settings(), hosts=["server.example", "10.0.0.5"], port=4711
    )


# -- keys ----------------------------------------------------------------------------------------------


def test_a_stores_keys_are_its_own_and_stay(tmp_path: Path) -> None:
    card = enroll(tmp_path / "a", "amber")
    assert enroll(tmp_path / "a", "amber") == card == StoreCard.read(tmp_path / "a" / "card.json")
    other = enroll(tmp_path / "b", "birch")
    assert card.signing_key != other.signing_key
    assert card.node_key != other.node_key
    for name in ("node.key", "store.key"):
        assert (tmp_path / "a" / name).stat().st_mode & 0o077 == 0
    signing = Ed25519PrivateKey.from_private_bytes((tmp_path / "a" / "store.key").read_bytes())
    assert signing.public_key().public_bytes_raw().hex() == card.signing_key
    node = serialization.load_ssh_private_key((tmp_path / "a" / "node.key").read_bytes(), None)
    public = node.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    assert public.decode() == card.node_key


def test_a_card_holds_no_secret(tmp_path: Path) -> None:
    enroll(tmp_path, "amber")
    text = (tmp_path / "card.json").read_text()
    assert set(json.loads(text)) == {"schema", "name", "node_key", "signing_key"}
    assert (tmp_path / "store.key").read_bytes().hex() not in text


@pytest.mark.parametrize("name", ["", "a b", "../x", "-a", "a" * 65])
def test_a_name_that_is_none_is_refused_and_nothing_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no name of a store"):
        enroll(tmp_path / "s", name)
    assert not (tmp_path / "s").exists()


def test_a_folder_is_one_stores(tmp_path: Path) -> None:
    enroll(tmp_path, "amber")
    with pytest.raises(RunError, match="folder of amber"):
        enroll(tmp_path, "birch")
    (tmp_path / "card.json").write_text('{"schema": "privemo.store-card/1"}')
    with pytest.raises(RunError, match="no store's card"):
        enroll(tmp_path, "amber")


@pytest.fixture
def moved(tmp_path: Path) -> Path:
    """A store whose card was moved to the server, and not copied."""
    enroll(tmp_path / "amber", "amber")
    (tmp_path / "amber" / "card.json").rename(tmp_path / "card.json")
    return tmp_path / "amber"


def keys(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("node.key", "store.key")]


def test_a_card_that_was_moved_away_is_made_again_of_the_same_keys(moved: Path) -> None:
    before = keys(moved)
    said = CliRunner().invoke(app, ["federation", "enroll", str(moved), "--name", "amber"])
    assert said.exit_code == 0, said.output
    assert "made again of node.key and store.key, which stay" in " ".join(said.output.split())
    assert keys(moved) == before
    assert StoreCard.read(moved / "card.json") == StoreCard.read(moved.parent / "card.json")
    again = CliRunner().invoke(app, ["federation", "enroll", str(moved), "--name", "amber"])
    assert "made again" not in again.output


@pytest.mark.parametrize("lost", ["node.key", "store.key"])
def test_a_key_that_is_left_stays_and_the_other_is_new(moved: Path, lost: str) -> None:
    before = keys(moved)
    (moved / lost).unlink()
    said = CliRunner().invoke(app, ["federation", "enroll", str(moved), "--name", "amber"])
    left = {"node.key": "store.key", "store.key": "node.key"}[lost]
    assert f"there was {left} alone" in " ".join(said.output.split())
    same = [new == old for new, old in zip(keys(moved), before, strict=True)]
    assert same == [lost != "node.key", lost != "store.key"]
    card = StoreCard.read(moved / "card.json")
    signing = Ed25519PrivateKey.from_private_bytes(keys(moved)[1])
    assert signing.public_key().public_bytes_raw().hex() == card.signing_key


@pytest.mark.parametrize(
    ("damaged", "why"),
    [("node.key", "no node's key"), ("store.key", "no store's key")],
)
def test_a_key_that_cannot_be_read_is_not_written_over(moved: Path, damaged: str, why: str) -> None:
    for other in (b"half a k", Path(moved / "node.key").read_bytes()[:-40] + b"\n"):
        (moved / damaged).write_bytes(other)
        before = keys(moved)
        with pytest.raises(RunError, match=f"{why}.*Restore it"):
            enroll(moved, "amber")
        assert keys(moved) == before
        assert not (moved / "card.json").exists()


def test_a_node_key_of_another_kind_is_none(moved: Path) -> None:
    private = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    (moved / "node.key").write_bytes(private)
    with pytest.raises(RunError, match=r"no node's key \(of another kind\)"):
        enroll(moved, "amber")
    assert (moved / "node.key").read_bytes() == private


def test_a_store_that_joined_gets_no_card_of_another_name(chain: Run, tmp_path: Path) -> None:
    registry(tmp_path / "amber")
    join(tmp_path / "amber", invited(chain))
    (tmp_path / "amber" / "card.json").unlink()
    with pytest.raises(RunError, match="folder of amber"):
        enroll(tmp_path / "amber", "birch")
    with pytest.raises(RunError, match="makes the same one again while it has its keys"):
        join(tmp_path / "amber", invited(chain))  # and whoever does as it says
    enroll(tmp_path / "amber", "amber")
    join(tmp_path / "amber", invited(chain))  # is the store that was invited


# -- certificates --------------------------------------------------------------------------------------


def verified(authority: bytes, server: bytes, name: DNSName | IPAddress, at: datetime) -> None:
    store = Store([x509.load_pem_x509_certificate(authority)])
    verifier = PolicyBuilder().store(store).time(at).build_server_verifier(name)
    verifier.verify(x509.load_pem_x509_certificate(server), [])


def test_a_certificate_holds_for_its_hosts_and_its_time_alone() -> None:
    import ipaddress

    made, now = issue(["server.example", "10.0.0.5"], days=30), datetime.now(UTC)
    verified(made.authority, made.server, DNSName("server.example"), now)
    verified(made.authority, made.server, IPAddress(ipaddress.ip_address("10.0.0.5")), now)
    with pytest.raises(VerificationError):
        verified(made.authority, made.server, DNSName("other.example"), now)
    with pytest.raises(VerificationError):
        verified(made.authority, made.server, DNSName("server.example"), now + timedelta(days=31))
    other = issue(["server.example"]).authority  # of another federation
    with pytest.raises(VerificationError):
        verified(other, made.server, DNSName("server.example"), now)


@pytest.mark.parametrize("hosts", [[], ["no such host"], ["-"], ["a..b"], ["ä.example"]])
def test_a_host_that_is_none_is_refused(hosts: list[str]) -> None:
    with pytest.raises(SettingsError, match="host"):
        issue(hosts)


# -- the server's folder -------------------------------------------------------------------------------


def test_the_servers_folder_has_what_it_takes_and_no_stores_secret(
    chain: Run, tmp_path: Path
) -> None:
    assert chain.stores == sorted(NAMES)
    assert set(chain.roster) == set(NAMES)
    assert chain.facts["simulated"] is False
    assert chain.last_whole_round()[0] == 0
    secrets = [(tmp_path / n / k).read_bytes() for n in NAMES for k in ("node.key", "store.key")]
    for path in chain.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(s in data or s.hex().encode() in data for s in secrets)
            if b"PRIVATE KEY" in data:
                assert path.name == "server.key"
                assert path.stat().st_mode & 0o077 == 0


def test_an_invitation_says_all_that_a_store_agrees_to(chain: Run) -> None:
    one = Invitation.read(chain.folder / "invitations" / "amber.json")
    assert one.address == "server.example:4711"
    assert one.agreement.epsilon_budget == 8.0
    assert one.agreement.noise_stores == 2
    assert set(one.agreement.roster) == set(NAMES)
    assert "PRIVATE" not in (chain.folder / "invitations" / "amber.json").read_text()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stores": 4}, "3 cards for 4 stores"),
        ({"declared_people": None}, "declares the people"),
        ({"privacy": None, "plain": {}}, "differential privacy"),
    ],
)
def test_what_cannot_be_a_federation_is_refused(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    if changes.get("plain") == {}:
        changes = {**changes, "plain": {"epochs": 1}}
    with pytest.raises(SettingsError, match=why):
        init_federation(tmp_path / "c", stores(tmp_path), settings(**changes), hosts=["a"])
    assert not (tmp_path / "c").exists()


def test_one_store_with_two_cards_is_refused(tmp_path: Path) -> None:
    cards = stores(tmp_path)
    twin = cards[0].model_copy(update={"name": "zelkova"})
    for two in ([*cards[:2], cards[0]], [*cards[:2], twin]):
        with pytest.raises(SettingsError, match="each store has its own"):
            init_federation(tmp_path / "c", two, settings(), hosts=["a"])


def test_nothing_is_overwritten(chain: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not empty"):
        init_federation(chain.folder, stores(tmp_path), settings(), hosts=["a"])
    with pytest.raises(SettingsError, match="port"):
        init_federation(tmp_path / "d", stores(tmp_path), settings(), hosts=["a"], port=0)


# -- joining -------------------------------------------------------------------------------------------


def invited(chain: Run, name: str = "amber") -> Invitation:
    return Invitation.read(chain.folder / "invitations" / f"{name}.json")


def test_a_store_that_joined_takes_the_servers_orders_and_no_others(
    chain: Run, tmp_path: Path
) -> None:
    registry(tmp_path / "amber")
    config = join(tmp_path / "amber", invited(chain))
    assert config.registry_mode == "production"
    assert config.seed is None
    store = PrivemoStore(tmp_path / "amber")
    try:
        for number in (1, 2):
            store.check_order(chain.order_for(number))
        other = init_federation(
            tmp_path / "other", stores(tmp_path), settings(declared_people=20), hosts=["a"]
        )
        with pytest.raises(SettingsError):
            store.check_order(other.order_for(1))
    finally:
        store.close()


def test_a_simulated_store_keeps_what_is_simulated(chain: Run, tmp_path: Path) -> None:
    folder = tmp_path / "amber"
    registry(folder, "simulation")
    before = StoreConfig(
        name="amber",
        run_id="earlier",
        registry_mode="simulation",
        epsilon_budget=1.0,
        declared_people=5,
        largest_step=5,
        seed=9,
    )
    (folder / "store.json").write_text(before.model_dump_json(by_alias=True))
    config = join(folder, invited(chain))
    assert (config.registry_mode, config.seed) == ("simulation", 9)
    assert (config.run_id, config.epsilon_budget) == (chain.run_id, 8.0)


def test_a_store_agrees_to_counts_when_it_joins_and_to_less_if_it_likes(
    chain: Run, tmp_path: Path
) -> None:
    terms = CountTerms(groups=(("age_band", ("young", "old")),), epsilon=2.0)
    made = init_federation(
        tmp_path / "counted",
        stores(tmp_path),
        settings(sensitive=("age_band",), counts=terms),
        hosts=["a"],
    )
    registry(tmp_path / "amber")
    assert join(tmp_path / "amber", invited(made)).counts == terms
    less = join(tmp_path / "amber", invited(made), count_epsilon=1.0).counts
    assert less is not None
    assert less.epsilon == 1.0
    assert join(tmp_path / "amber", invited(made), count_epsilon=0.0).counts is None
    with pytest.raises(SettingsError, match="is not less"):
        join(tmp_path / "amber", invited(made), count_epsilon=3.0)
    with pytest.raises(SettingsError, match="asks for no counts"):
        join(tmp_path / "amber", invited(chain), count_epsilon=1.0)
    with pytest.raises(BudgetExhausted, match="over the budget of 8"):
        init_federation(
            tmp_path / "dear",
            stores(tmp_path),
            settings(counts=terms.model_copy(update={"epsilon": 7.0, "groups": ()})),
            hosts=["a"],
        )
    assert not (tmp_path / "dear").exists()


def test_layers_of_other_runs_are_named_when_a_store_joins_and_stay(
    chain: Run, tmp_path: Path
) -> None:
    registry(folder := tmp_path / "amber")
    invitation = chain.folder / "invitations" / "amber.json"
    joining = ["federation", "join", str(folder), "--no-start", "--invitation", str(invitation)]
    (folder / "personal" / chain.run_id).mkdir(parents=True)
    said = CliRunner().invoke(app, joining)
    assert said.exit_code == 0, said.output
    assert "other runs" not in said.output, "this run's are no other's"
    (folder / "personal" / "earlier").mkdir()
    (old := folder / "personal" / "earlier" / "0003.safetensors").write_bytes(b"layers")
    (loose := folder / "personal" / "0005.safetensors").write_bytes(b"older")
    said = CliRunner().invoke(app, joining)
    assert said.exit_code == 0, said.output
    assert "layers of other runs (0005.safetensors, earlier)" in " ".join(said.output.split())
    assert (old.read_bytes(), loose.read_bytes()) == (b"layers", b"older")


def test_an_invitation_to_a_run_that_would_name_another_folder_is_none(
    chain: Run, tmp_path: Path
) -> None:
    content = json.loads((chain.folder / "invitations" / "amber.json").read_text())
    content["agreement"]["run_id"] = "../../elsewhere"
    (forged := tmp_path / "forged.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"no invitation \(agreement\.run_id"):
        Invitation.read(forged)


def test_what_is_asked_of_a_federation_that_is_not_served_or_not_finished(chain: Run) -> None:
    with pytest.raises(RunError, match="agreed to no counts"):
        request_of(chain)
    request = CountTerms(epsilon=1.0).request(chain.run_id, 1e-5)
    with pytest.raises(RunError, match=r"0 of 2 whole rounds.*privemo federation run"):
        run_counts(chain.folder, request)
    with pytest.raises(RunError, match="not being served"):
        run_rounds(chain.folder)


def test_who_asks_while_an_app_goes_on_is_told_so(
    chain: Run, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    going_on = ExitStack()
    request = CountTerms(epsilon=1.0).request(chain.run_id, 1e-5)
    with going_on:
        going_on.enter_context(driving(chain))
        for ask in (lambda: run_rounds(chain.folder), lambda: run_counts(chain.folder, request)):
            with pytest.raises(
                RunError, match=r"is being run by another process \(process \d+ since .*"
            ) as told:
                ask()
            assert f"privemo watch {chain.folder}" in str(told.value)
            assert f"privemo federation stop {chain.folder}" in str(told.value)

    def dropped(folder: Path) -> str:
        """Flower tells no more, and its app goes on."""
        going_on.enter_context(driving(chain))
        return ""

    monkeypatch.setattr(asking, "run_apps", dropped)
    with going_on, pytest.raises(RunError, match="is being run by another process"):
        run_rounds(chain.folder)

    def ctrl_c(folder: Path) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(asking, "run_apps", ctrl_c)
    with pytest.raises(RunInterrupted, match="goes on by itself: follow it with `privemo watch"):
        run_rounds(chain.folder)


def test_an_invitation_of_another_store_is_refused(chain: Run, tmp_path: Path) -> None:
    registry(tmp_path / "amber")
    with pytest.raises(RunError, match=r"is for birch.*take the one .* invitations/amber\.json"):
        join(tmp_path / "amber", invited(chain, "birch"))
    forged = invited(chain).model_copy(update={"signing_key": "0" * 64})
    with pytest.raises(
        RunError, match="is for amber with the signing key 0000000000000000"
    ) as told:
        join(tmp_path / "amber", forged)
    mine = StoreCard.read(tmp_path / "amber" / "card.json").signing_key
    assert f"is amber with another, {mine[:16]}" in str(told.value)
    assert "Restore store.key, node.key and card.json of before" in str(told.value)
    assert f"carry {tmp_path / 'amber' / 'card.json'} to the server" in str(told.value)
    agreed = invited(chain).agreement
    roster = {**agreed.roster, "amber": "0" * 64}
    tricked = invited(chain).model_copy(
        update={"agreement": agreed.model_copy(update={"roster": roster})}
    )
    with pytest.raises(RunError, match="The roster of this invitation is for amber with the"):
        join(tmp_path / "amber", tricked)
    assert not (tmp_path / "amber" / "store.json").exists()


def test_a_store_without_a_registry_or_keys_joins_nothing(chain: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="privemo registry new"):
        join(tmp_path / "amber", invited(chain))
    with pytest.raises(RunError, match=r"card.json does not exist"):
        join(tmp_path / "nowhere", invited(chain))


def test_a_store_that_agreed_to_nothing_is_told_what_to_do(chain: Run, tmp_path: Path) -> None:
    amber = tmp_path / "amber"
    registry(amber)
    what_to_do = f"amber has agreed to no federation yet: privemo federation join {amber} --invit"
    for open_it in (lambda: serve_store(amber, print), lambda: PrivemoStore(amber)):
        with pytest.raises(RunError, match=what_to_do):
            open_it()
    with pytest.raises(RunError, match="chain is no store's folder"):
        PrivemoStore(chain.folder)


@pytest.mark.parametrize("field", ["address", "authority", "agreement", "store"])
def test_an_invitation_that_lacks_something_is_named(field: str, chain: Run) -> None:
    path = chain.folder / "invitations" / "amber.json"
    content = json.loads(path.read_text())
    del content[field]
    path.write_text(json.dumps(content))
    with pytest.raises(RunError, match=rf"no invitation \({field}"):
        Invitation.read(path)


# -- processes that are not there ----------------------------------------------------------------------


@pytest.fixture
def taken(chain: Run) -> Iterator[int]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        port = one.getsockname()[1]
        path = chain.folder / "server.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "port": port}))
        yield port


def test_a_port_that_is_taken_is_named(chain: Run, taken: int) -> None:
    with pytest.raises(RunError, match=f"Port {taken} is taken"):
        serve(chain.folder, print)


def test_a_start_writes_where_the_server_is_now(
    chain: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chain is drawn up in one place and served in another: moved, or mounted into a container."""
    assert not (chain.folder / "flower").exists()
    monkeypatch.setattr(superlink, "is_open", lambda port: False)
    monkeypatch.setattr(superlink, "_command", lambda *_: [sys.executable, "-c", ""])
    for name in ("moved", 'a "place" ö 🜁'):
        folder = chain.folder.rename(tmp_path / name)
        chain = Run(folder)
        with pytest.raises(RunError, match="did not start"):
            serve(folder, print)
        found = tomllib.loads((folder / "flower" / "config.toml").read_text())["superlink"]
        assert found == {
            "default": "here",
            "here": {
                "address": "127.0.0.1:4711",
                "root-certificates": str(folder.resolve() / "tls" / "authority.pem"),
            },
        }


def test_a_round_waits_as_long_as_the_server_was_drawn_up_for(tmp_path: Path) -> None:
    cards = stores(tmp_path)
    made = init_federation(
        tmp_path / "chain", cards, settings(), hosts=["10.0.0.5"], round_timeout=120
    )
    assert json.loads((made.folder / "server.json").read_text())["round_timeout"] == 120
    assert round_timeout(made) == 120
    with pytest.raises(SettingsError, match="round_timeout"):
        init_federation(tmp_path / "b", cards, settings(), hosts=["10.0.0.5"], round_timeout=1)
    assert not (tmp_path / "b").exists()


def test_how_long_a_round_waits_is_the_servers_own(chain: Run) -> None:
    before = (chain.folder / "run.json").read_bytes()
    assert b"round_timeout" not in before, "it is no part of what stores agree to"
    path = chain.folder / "server.json"
    content = json.loads(path.read_text())
    assert content["round_timeout"] == round_timeout(chain) == ROUND_TIMEOUT_S
    path.write_text(json.dumps({**content, "round_timeout": 90}))
    assert round_timeout(chain) == 90
    wrong: list[Any] = ["90", True, None, 0, -3, 1e12]
    for value in wrong:
        path.write_text(json.dumps({**content, "round_timeout": value}))
        with pytest.raises(RunError, match=r"server.json: .*round_timeout"):
            round_timeout(chain)
    del content["round_timeout"]  # of a server that was drawn up before there was one
    path.write_text(json.dumps(content))
    assert round_timeout(chain) == ROUND_TIMEOUT_S
    chain.facts["engine"] = "in-process"
    assert round_timeout(chain) == IN_ALL_S, "stores of a simulation take turns, and nobody is late"


def test_what_is_not_served_says_so(chain: Run) -> None:
    with pytest.raises(RunError, match="not being served"):
        run_rounds(chain.folder)
    with pytest.raises(RunError, match="not being served"):
        stop(chain.folder)
    with pytest.raises(RunError, match="not being served"):
        online_nodes(chain.folder)
    (chain.folder / "server.pid").write_text("none")
    with pytest.raises(RunError, match="not being served"):
        stop(chain.folder)


def test_a_store_that_joined_nothing_cannot_start(chain: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has agreed to no federation yet"):
        serve_store(tmp_path / "amber", print)
    with pytest.raises(RunError, match=r"server.json does not exist"):
        serve(tmp_path / "amber", print)
