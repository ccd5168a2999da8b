"""Who may speak to a server; real processes stand in tests/faults/test_federation_refused.py."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import HTTPException
from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.superlink import main as superlink
from flwr.superlink.routers.fleet import node_auth

from privemo.errors import RunError
from privemo.federation import doorkeeper
from privemo.federation import keys as keys_module
from privemo.federation.doorkeeper import Door, fingerprint, is_here
from privemo.federation.keys import Keys, revoke, revoked
from privemo.federation.processes import environment


def new_key(chain: Path, name: str) -> bytes:
    """A store's key among those of a server, as the node will send it."""
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    text = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (chain / "nodes").mkdir(exist_ok=True)
    (chain / "nodes" / f"{name}.pub").write_bytes(text + b"\n")
    return public_key_to_bytes(public)


def test_a_revoked_key_is_out_with_the_next_request_and_nobody_else_is(tmp_path: Path) -> None:
    amber, birch = new_key(tmp_path, "amber"), new_key(tmp_path, "birch")
    keys = Keys(tmp_path / "nodes")
    assert keys.is_known(amber)
    assert keys.revoked(amber) is None
    revoke(tmp_path, "amber")
    assert (keys.revoked(amber), keys.revoked(birch)) == ("amber", None)
    assert keys.is_known(birch)
    assert revoked(tmp_path) == ["amber"]
    # Whoever puts the file back beside it has not let the store in.
    public = tmp_path / "nodes" / "amber.revoked"
    (tmp_path / "nodes" / "amber.pub").write_bytes(public.read_bytes())
    assert keys.revoked(amber) == "amber"


def test_a_folder_that_rested_is_read_once_and_again_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    amber = new_key(tmp_path, "amber")
    nodes = tmp_path / "nodes"
    os.utime(nodes, (1_000_000_000, 1_000_000_000))
    read: list[Path] = []
    once = keys_module._pem
    monkeypatch.setattr(keys_module, "_pem", lambda path: (read.append(path), once(path))[1])
    keys = Keys(nodes)
    assert all(keys.is_known(amber) for _ in range(5))
    assert len(read) == 1
    revoke(tmp_path, "amber")
    assert keys.revoked(amber) == "amber"


@pytest.mark.parametrize("broken", [b"", b"ssh-rsa AAAA", b"\xff\xfe"])
def test_a_key_file_that_cannot_be_read_lets_nobody_in_and_locks_nobody_else_out(
    broken: bytes, tmp_path: Path
) -> None:
    amber = new_key(tmp_path, "amber")
    (tmp_path / "nodes" / "birch.pub").write_bytes(broken)
    keys = Keys(tmp_path / "nodes")
    assert keys.is_known(amber)
    assert not keys.is_known(b"")
    assert not keys.is_known(broken)


def test_without_its_folder_nobody_is_let_in(tmp_path: Path) -> None:
    assert not Keys(tmp_path / "gone").is_known(b"anything")


@pytest.mark.parametrize("name", ["nobody", "../amber", "", "amber.pub"])
def test_a_store_that_is_none_cannot_be_revoked(name: str, tmp_path: Path) -> None:
    new_key(tmp_path, "amber")
    with pytest.raises(RunError, match=r"lets no store .* There are: amber\."):
        revoke(tmp_path, name)
    assert revoked(tmp_path) == []


def test_a_store_is_revoked_once(tmp_path: Path) -> None:
    new_key(tmp_path, "amber")
    revoke(tmp_path, "amber")
    with pytest.raises(RunError, match="was revoked before"):
        revoke(tmp_path, "amber")


# -- what Flower is asked ------------------------------------------------------------------------------


class State:
    """Flower's database, as far as a key leads to a node."""

    def __init__(self, *keys: bytes) -> None:
        self.nodes = {key: number for number, key in enumerate(keys, start=1)}

    def get_node_id_by_public_key(self, key: bytes) -> int | None:
        return self.nodes.get(key)

    def delete_node(self, owner: str, node: int) -> None:
        self.nodes = {k: n for k, n in self.nodes.items() if n != node}


def asked(chain: Path, key: bytes, state: State, theirs: Any = lambda _: None) -> list[str]:
    """What is logged of a request with a key; raises what is answered."""
    said: list[str] = []
    check = doorkeeper._strict(theirs, Keys(chain / "nodes"), lambda _: state, said.append)
    header = {FLEET_HTTP_PUBLIC_KEY_HEADER: base64.b64encode(key).decode()}
    try:
        check(SimpleNamespace(headers=header, client=("10.0.0.7", 1)))
    except HTTPException as error:
        said.append({401: "refused"}[error.status_code])
    return said


def test_a_known_store_is_let_in_without_a_word(tmp_path: Path) -> None:
    key = new_key(tmp_path, "amber")
    assert asked(tmp_path, key, State(key)) == []


def test_a_key_that_only_flowers_database_knows_is_refused_and_told(tmp_path: Path) -> None:
    new_key(tmp_path, "amber")
    state = State(b"a stranger's")
    told = (
        f"Refused a node at 10.0.0.7 with key {fingerprint(b'''a stranger's''')}: no store of this"
    )
    line, refused = asked(tmp_path, b"a stranger's", state)
    assert (line, refused) == (f"{told} federation has it.", "refused")
    # A file that is gone by mistake may come back: Flower would never take the same key again.
    assert state.nodes


def test_a_node_without_a_key_is_told_as_such(tmp_path: Path) -> None:
    new_key(tmp_path, "amber")
    told = "Refused a node at 10.0.0.7: it shows no key."
    assert asked(tmp_path, b"", State()) == [told, "refused"]
    assert knocked(("10.0.0.7", 1), "/v1/fleet/pull-messages", key=b"")[1] == [told]


def test_no_round_waits_for_a_revoked_store(tmp_path: Path) -> None:
    amber, birch = new_key(tmp_path, "amber"), new_key(tmp_path, "birch")
    state = State(amber, birch)
    revoke(tmp_path, "amber")
    line, refused = asked(tmp_path, amber, state)
    assert (line.endswith(": amber was revoked."), refused) == (True, "refused")
    assert set(state.nodes) == {birch}


def test_whom_flower_refuses_is_told_with_the_reason(tmp_path: Path) -> None:
    key = new_key(tmp_path, "amber")

    def wrong_clock(_: Any) -> None:
        try:
            raise ValueError("Timestamp outside the allowed window")
        except ValueError as error:
            raise HTTPException(401, "Invalid SuperNode authentication") from error

    line, refused = asked(tmp_path, key, State(key), wrong_clock)
    assert (line.endswith(": Timestamp outside the allowed window."), refused) == (True, "refused")


def test_flower_still_has_what_is_replaced_in_it() -> None:
    """A version in which these are elsewhere would let everybody in without a word."""
    assert node_auth.authenticate_node.__globals__ is vars(node_auth)
    assert "authenticate_node" in node_auth.NodeAuthMiddleware.dispatch.__code__.co_names
    assert "get_linkstate" in vars(node_auth)
    assert "_get_middleware" in superlink.create_app.__code__.co_names
    assert doorkeeper._KEY_HEADER == FLEET_HTTP_PUBLIC_KEY_HEADER


# -- the door ------------------------------------------------------------------------------------------


def knocked(
    client: Any, path: str, kind: str = "http", *, keys: Keys | None = None, **request: Any
) -> tuple[Any, list[str]]:
    """What a request comes to: what the app read, or what is sent instead; and what is logged."""
    sent: list[Any] = []
    said: list[str] = []
    parts = list(request.get("parts", [b""]))

    async def receive() -> dict[str, Any]:
        if not parts or (part := parts.pop(0)) is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def app(_scope: Any, their_receive: Any, _send: Any) -> None:
        sent.append((await their_receive())["body"] if kind == "http" else "let in")

    async def send(message: Any) -> None:
        sent.append(message.get("status", message.get("code")))

    headers = [(FLEET_HTTP_PUBLIC_KEY_HEADER.encode(), base64.b64encode(request.get("key", b"")))]
    scope = {"type": kind, "path": path, "client": client, "headers": headers}
    door = Door(app, said.append, keys or Keys(Path("nowhere")))
    asyncio.run(door(scope, receive, send))
    request.get("left", []).extend(parts)
    return sent[0] if sent else None, said


@pytest.mark.parametrize("client", [("127.0.0.1", 1), ("127.9.9.9", 1), ("::1", 1)])
def test_on_this_machine_all_is_answered(client: Any) -> None:
    assert knocked(client, "/v1/control/start-run") == (b"", [])


@pytest.mark.parametrize(
    "path",
    [
        "/v1/control/start-run",
        "/v1/control/register-node",
        "/v1/runtime/pull-pending-task",
        "/docs",
        "/v1/fleet",
        "/v1/fleet/../control/start-run",
    ],
)
def test_from_another_machine_a_store_may_ask_what_stores_ask_and_no_more(path: str) -> None:
    found, said = knocked(("10.0.0.7", 1), path)
    if path.startswith("/v1/fleet/"):  # nothing resolves dots: Flower has no such path
        assert (found, len(said)) == (401, 1)
    else:
        assert (found, said) == (404, [f"Refused 10.0.0.7: {path!r} is for this machine alone."])


def test_a_store_is_let_in_with_all_that_it_sent_in_parts(tmp_path: Path) -> None:
    key, keys = new_key(tmp_path, "amber"), Keys(tmp_path / "nodes")
    parts = [b"a" * (4 << 20), b"", b"b" * (4 << 20)]
    found = knocked(("10.0.0.7", 1), "/v1/fleet/push-object", keys=keys, key=key, parts=parts)
    assert found == (b"".join(parts), [])


def test_of_a_store_that_went_away_in_the_middle_nothing_is_passed_on(tmp_path: Path) -> None:
    """Nodes sign the time and not the request: half of one may read as a whole other one."""
    key, keys = new_key(tmp_path, "amber"), Keys(tmp_path / "nodes")
    for parts in ([b"half", None], [None]):
        found = knocked(("10.0.0.7", 1), "/v1/fleet/push-messages", keys=keys, key=key, parts=parts)
        assert found == (None, [])


@pytest.mark.parametrize("client", [("10.0.0.7", 1), ("127.0.0.1", 1)])
def test_of_a_stranger_nothing_is_read(tmp_path: Path, client: Any) -> None:
    """Flower would read all of it first, and ask who it is afterwards."""
    new_key(tmp_path, "amber")
    left: list[bytes] = []
    status, (line,) = knocked(
        client,
        "/v1/fleet/push-object",
        keys=Keys(tmp_path / "nodes"),
        key=b"a stranger's",
        parts=[b"x"] * 3,
        left=left,
    )
    assert (status, len(left)) == (401, 3)
    assert line.endswith("no store of this federation has it.")


def test_a_request_without_an_end_is_cut_off(tmp_path: Path) -> None:
    """Keys are public, so that whoever knows one could fill the server's memory."""
    key, keys = new_key(tmp_path, "amber"), Keys(tmp_path / "nodes")
    left: list[bytes] = []
    status, (line,) = knocked(
        ("10.0.0.7", 1),
        "/v1/fleet/push-object",
        keys=keys,
        key=key,
        parts=[b"x" * (1 << 20)] * 50,
        left=left,
    )
    assert (status, len(left)) == (413, 50 - 9)
    assert line.endswith("its request is longer than 8 MiB.")
    assert FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE < 6 << 20, "what an honest node sends is shorter"


def test_a_key_that_is_no_text_is_a_strangers(tmp_path: Path) -> None:
    scope = {"headers": [(b"flwr-public-key", b"\xff\xfe")]}
    assert doorkeeper._key_in(scope) == b""
    assert doorkeeper._key_in({"headers": []}) == b""


def test_whoever_does_not_say_where_they_are_is_elsewhere() -> None:
    assert not is_here(None)
    assert not is_here(("", 1))
    assert not is_here(("localhost", 1))
    assert knocked(None, "/v1/control/start-run")[0] == 404
    assert knocked(("10.0.0.7", 1), "/v1/control/x", "websocket")[0] == 1008
    assert knocked(None, "", "lifespan")[0] == "let in"


def test_whoever_asks_the_time_is_not_logged() -> None:
    assert knocked(("10.0.0.7", 1), "/") == (404, [])


def test_a_server_is_not_told_to_believe_strangers_about_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvicorn would take `X-Forwarded-For: 127.0.0.1` of anybody for the truth, and the door would open."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    assert "FORWARDED_ALLOW_IPS" not in environment(tmp_path)
