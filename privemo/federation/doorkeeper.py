"""Who may speak to a server: `python -m privemo.federation.doorkeeper NODES ...` is its SuperLink.

Flower's SuperLink answers on one port to stores, operators and its own processes, and asks stores alone
who they are: whoever reached it could let nodes in by `flwr supernode register`, and have the server run
an app of theirs by `flwr run`. Here

- only a key of `nodes/NAME.pub` is let in (`privemo.federation.keys`), and it is known from the start
  (`privemo.federation.nodes`). Renamed to `NAME.revoked`, it shuts the store out with its next request, of
  this server and of one that starts later;
- what is not meant for stores is answered on this machine alone (`Door`);
- who was refused, and why, stands in the server's log, sixty lines a minute at most;
- who asks for messages is answered once there is one (`privemo.federation.longpoll`); and
- it ends with the process that started it (`privemo.federation.lifeline`), and with what starts its apps
  (`privemo.federation.executor`).

| who comes | what happens |
|---|---|
| a store of the federation | as Flower would have it |
| a key that is in no file, or in one that cannot be read | 401, and a line in the log |
| the key of a store that was revoked | the same; its node is unregistered, so that no round waits for it |
| a signature that does not hold, a clock that is wrong | 401 by Flower, and a line in the log |
| anybody from another machine who asks for more than a store may | 404, and a line in the log |
| anybody whose request is longer than 8 MiB | 413, and a line in the log |
| anybody who speaks no TLS, or trusts another authority | no answer, and a line in the log |
"""

from __future__ import annotations

import ipaddress
import sys
from base64 import b64decode
from collections.abc import Callable, Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privemo.answered import Answered, answered_file
from privemo.federation.asgi import again
from privemo.federation.executor import end_with_executor
from privemo.federation.handshake import tell_of_broken_handshakes
from privemo.federation.keys import Keys
from privemo.federation.lifeline import to_the_end
from privemo.federation.longpoll import LongPoll
from privemo.federation.nodes import know_from_the_start
from privemo.federation.shortcut import with_shortcuts
from privemo.federation.throttled import Quiet, Throttled
from privemo.machine import quiet_environment

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["Door", "fingerprint", "is_here", "main"]

_FOR_STORES = "/v1/fleet/"
_KEY_HEADER = "flwr-public-key"
_LONGEST = 8 << 20  # bytes; Flower sends arrays in parts of 5 MiB


def fingerprint(key: bytes) -> str:
    """What a log calls a key, in 16 hex digits of its SHA-256."""
    return sha256(key).hexdigest()[:16]


def is_here(client: Sequence[Any] | None) -> bool:
    """Whether a request comes from this machine. What does not say where it comes from does not."""
    try:
        return ipaddress.ip_address(client[0]).is_loopback if client else False
    except ValueError:
        return False


class Door:
    """ASGI middleware: to other machines nothing is there but what stores need.

    Flower reads a store's request into memory before it asks whose it is; so here a key that nobody knows
    ends there, and so does a request that is longer than any of an honest node.

    Args:
        app: what lies behind.
        log: told a line of whoever is refused.
        keys: of the stores.
    """

    def __init__(self, app: Any, log: Callable[[str], None], keys: Keys) -> None:
        self.app, self.log, self.keys = app, log, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request, or refuse it."""
        path, client = str(scope.get("path", "")), scope.get("client")
        if scope["type"] == "http" and path.startswith(_FOR_STORES):
            await self._of_store(scope, receive, send)
        elif scope["type"] == "lifespan" or is_here(client):
            await self.app(scope, receive, send)
        else:
            if path != "/":  # there a store asks what time it is (`privemo.federation.refusals`)
                self.log(f"Refused {_host(client)}: {path[:100]!r} is for this machine alone.")
            await _refuse(scope, send, 404)

    async def _of_store(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _key_in(scope)
        if not self.keys.is_known(key):
            self.log(_unknown(scope.get("client"), key))
            await _refuse(scope, send, 401)
            return
        gone, body = await _body(receive)
        if gone:
            return  # Flower would take what came for all of it
        if body is None:
            who = f"{_host(scope.get('client'))} with key {fingerprint(key)}"
            self.log(f"Refused a node at {who}: its request is longer than {_LONGEST >> 20} MiB.")
            await _refuse(scope, send, 413)
            return
        whole = {"type": "http.request", "body": body, "more_body": False}
        await self.app(scope, again(whole, receive), send)


async def _body(receive: Receive) -> tuple[bool, bytes | None]:
    """Whether the sender went away, and all of a request's body; None where it is too long to be read on."""
    parts, length = list[bytes](), 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return True, None
        parts.append(message.get("body", b""))
        length += len(parts[-1])
        if length > _LONGEST:
            return False, None
        if not message.get("more_body", False):
            return False, b"".join(parts)


async def _refuse(scope: Scope, send: Send, status: int) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send({"type": "websocket.close", "code": 1008})


def _host(client: Sequence[Any] | None) -> str:
    return str(client[0]) if client else "somebody"


def _unknown(client: Sequence[Any] | None, key: bytes) -> str:
    if not key:
        return f"Refused a node at {_host(client)}: it shows no key."
    who = f"{_host(client)} with key {fingerprint(key)}"
    return f"Refused a node at {who}: no store of this federation has it."


def _strict(
    theirs: Callable[[Any], None],
    keys: Keys,
    state_of: Callable[[Any], Any],
    log: Callable[[str], None],
) -> Callable[[Any], None]:
    """Flower's check of a node, and ours of its key; whoever fails is logged.

    Args:
        theirs: raises where signature, clock or number do not fit.
        keys: that may come in.
        state_of: Flower's database of nodes, from a request.
        log: told a line of whoever is refused.
    """
    from fastapi import HTTPException

    def authenticate(request: Any) -> None:
        key = _key_of(request)
        who = f"Refused a node at {_host(request.client)} with key {fingerprint(key)}"
        name = keys.revoked(key)
        if name is not None:
            log(f"{who}: {name} was revoked.")
            _unregister(state_of(request), key)
        elif not keys.is_known(key):
            log(_unknown(request.client, key))
        else:
            try:
                theirs(request)
            except HTTPException as error:
                cause = error.__cause__
                log(f"{who}: {cause if isinstance(cause, ValueError) else error.detail}.")
                raise
            return
        raise HTTPException(401, "Invalid SuperNode authentication")

    return authenticate


def _key_of(request: Any) -> bytes:
    return _decoded(request.headers.get(_KEY_HEADER, ""))


def _key_in(scope: Scope) -> bytes:
    """The same of a request that nobody has read yet."""
    named = _KEY_HEADER.encode()
    return _decoded(next((text for name, text in scope["headers"] if name == named), b""))


def _decoded(text: str | bytes) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:  # also of text that is no ASCII
        return b""


def _unregister(state: Any, key: bytes) -> None:
    """Take a node out of Flower's database, so that no round waits for it.

    Anybody can send this key, for it is public; it has to be out in any case.
    """
    from flwr.common.constant import NOOP_FLWR_AID

    node = state.get_node_id_by_public_key(key)
    if node is not None:
        state.delete_node(NOOP_FLWR_AID, node)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run Flower's SuperLink behind this door.

    Args:
        arguments: the folder of keys, then those of `flower-superlink`.
    """
    quiet_environment()
    nodes, *others = sys.argv[1:] if arguments is None else arguments
    sys.argv = ["flower-superlink", *others]
    from logging import WARNING, getLogger

    from flwr.supercore import log
    from flwr.superlink import main as superlink
    from flwr.superlink.routers.fleet import node_auth
    from starlette.middleware import Middleware
    from uvicorn import config as uvicorn_config

    def tell(line: str) -> None:
        log(WARNING, "%s", line)

    cli = import_module("flwr.superlink.cli.flower_superlink")  # a function hides it in its package
    keys, refused = Keys(Path(nodes)), Throttled(tell)
    places, theirs = vars(node_auth), vars(superlink)["_get_middleware"]
    places["authenticate_node"] = _strict(
        places["authenticate_node"], keys, places["get_linkstate"], refused
    )
    tell_of_broken_handshakes(uvicorn_config, refused)
    for name in ("uvicorn.access", "uvicorn.error"):
        getLogger(name).addFilter(Quiet())
    end_with_executor(cli, tell)
    know_from_the_start(superlink, keys.let_in)
    door = Middleware(Door, log=refused, keys=keys)
    polls = Middleware(LongPoll, answered=Answered(answered_file(Path(nodes).parent)).tell)
    vars(superlink)["_get_middleware"] = lambda: [door, polls, *with_shortcuts(theirs())]
    to_the_end(cli.flower_superlink)


if __name__ == "__main__":
    main()
