"""Layers of Flower's that a request passes by: the ones that would have done nothing, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from flwr.proto.fleet_pb2 import PullMessagesRequest, PullMessagesResponse
from flwr.proto.runtime_pb2 import AcquireTaskResponse
from flwr.proto.task_pb2 import Task
from flwr.supercore.routers.runtime import tracing
from flwr.superlink import main as superlink
from flwr.superlink.routers.control import middlewares
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from privemo.federation.shortcut import ONLY_FOR, Only, with_shortcuts

PATHS = (
    "/v1/fleet/pull-messages",
    "/v1/runtime/pull-messages",
    "/v1/control/start-run",
    "/v1/control/get-auth-tokens",
    "/v1/other",
    "/health",
)


@pytest.fixture(autouse=True)
def _no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    for _, switch in ONLY_FOR.values():
        if switch:
            monkeypatch.delenv(switch, raising=False)


def named(layers: list[Middleware]) -> list[str]:
    """What a request goes through, by the names of Flower's classes."""
    return [getattr(layer.kwargs.get("of", layer.cls), "__name__", "") for layer in layers]


def test_every_layer_of_the_table_is_one_of_flowers() -> None:
    assert set(ONLY_FOR) <= set(named(superlink._get_middleware()))


def test_all_others_stay_in_their_order_and_what_asks_for_a_key_is_among_them() -> None:
    theirs = superlink._get_middleware()
    ours = with_shortcuts(theirs)
    off = {name for name, (_, switch) in ONLY_FOR.items() if switch}
    assert named(ours) == [name for name in named(theirs) if name not in off]
    whole = [layer.cls for layer in ours if layer.cls is not Only]
    assert NodeAuthMiddleware in whole
    assert len(whole) == len(theirs) - len(ONLY_FOR)


def test_a_layer_with_a_switch_is_there_once_it_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = superlink._get_middleware()
    monkeypatch.setenv("FLWR_TRACING_ENABLED", "1")
    assert named(with_shortcuts(theirs)) == named(theirs)


def test_a_layer_nobody_knows_and_one_with_arguments_of_its_own_are_left_alone() -> None:
    class Another:
        def __init__(self, app: Any) -> None:
            self.app = app

    class ControlLicenseMiddleware(Another):
        pass

    layers = [Middleware(Another), Middleware(ControlLicenseMiddleware, 3)]  # type: ignore[arg-type]
    assert with_shortcuts(layers) == layers


class Writer:
    """A plugin of Flower's that writes events, and here remembers them."""

    def __init__(self) -> None:
        self.wrote = list[str]()

    def compose_log_before_event(self, **event: Any) -> str:
        return f"before {event['method_name']}"

    def compose_log_after_event(self, **event: Any) -> str:
        return f"after {event['method_name']}"

    def write_log(self, entry: str) -> None:
        self.wrote.append(entry)


@dataclass
class Answered:
    """What a server with some layers answered, and what its plugins wrote."""

    status: int
    content: bytes
    headers: dict[str, str]
    wrote: list[str]


def post(layers: list[Middleware], path: str, method: str = "POST") -> Answered:
    """Ask a server of which every plugin is there, and every message is one for its runtime."""
    writer = Writer()

    async def answer(request: Request) -> PlainTextResponse:
        if request.url.path.startswith("/v1/runtime/"):
            request.state.protobuf_response = AcquireTaskResponse(task=Task(task_id=7))
        else:
            request.state.protobuf_response = PullMessagesResponse()
        return PlainTextResponse(request.url.path)

    class Parsed:  # as Flower's layer for protobuf leaves a request
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("state", {})["protobuf_request"] = PullMessagesRequest()
            await self.app(scope, receive, send)

    async def asked() -> httpx.Response:
        app = Starlette(
            routes=[Route(p, answer, methods=["POST", "GET"]) for p in PATHS],
            middleware=[Middleware(Parsed), *layers],
        )
        app.state.control_event_log_plugin = app.state.fleet_event_log_plugin = writer
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.request(method, path)

    found = asyncio.run(asked())
    return Answered(found.status_code, found.content, dict(found.headers), writer.wrote)


class NoLicense:
    def check_license(self) -> bool:
        return False


@pytest.fixture
def _everything_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middlewares, "get_license_plugin", NoLicense)
    monkeypatch.setenv("FLWR_TRACING_ENABLED", "1")
    monkeypatch.setattr(tracing, "get_runtime_state", lambda _request: None)
    monkeypatch.setattr(tracing, "load_task_context", lambda _state, task: f"trace of {task}")


def alone(name: str) -> list[Middleware]:
    return [layer for layer in superlink._get_middleware() if named([layer]) == [name]]


ODD = (
    "/v1/cont%72ol/start-run",
    "//v1/control/start-run",
    "/v1/control%2Fstart-run",
    "/V1/control/start-run",
    "/v1/fleet/../control/start-run",
    "/v1/control/start-run/",
)


@pytest.mark.usefixtures("_everything_on")
@pytest.mark.parametrize("name", sorted(ONLY_FOR))
def test_what_is_passed_by_would_have_changed_nothing(name: str) -> None:
    """Each layer alone, by Flower's rule and by ours, on every kind of path, with all plugins there."""
    theirs = alone(name)
    for path in (*PATHS, *ODD):
        for method in ("POST", "GET", "HEAD", "OPTIONS"):
            asked = (path, method)
            assert post(with_shortcuts(theirs), *asked) == post(theirs, *asked)


@pytest.mark.usefixtures("_everything_on")
@pytest.mark.parametrize("name", sorted(ONLY_FOR))
def test_and_where_it_does_something_it_is_not_passed_by(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison of above can fail: it does where a layer is left out everywhere."""
    monkeypatch.setitem(ONLY_FOR, name, ("/v1/nothing/", None))
    theirs = alone(name)
    assert [p for p in PATHS if post(with_shortcuts(theirs), p) != post(theirs, p)]


def test_operators_are_still_asked_who_they_are() -> None:
    """An app that does not know how to ask refuses; where the layer is passed by, nobody would notice."""
    name = "ControlAuthenticationMiddleware"
    asking = with_shortcuts(alone(name))
    assert post(asking, "/v1/control/start-run").status == 500
    assert post(asking, "/v1/fleet/pull-messages").status == 200


def test_what_is_no_request_goes_through() -> None:
    seen = list[str]()

    def layer(app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def around(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["type"])
            await app(scope, receive, send)

        return around

    async def app(*_: Any) -> None:
        return

    async def ask(*scopes: dict[str, str]) -> None:
        only, nothing = Only(app, of=layer, begins="/v1/control/"), None
        for scope in scopes:
            await only(scope, nothing, nothing)  # type: ignore[arg-type]

    other, own = ({"type": "http", "path": path} for path in PATHS[1:3])
    asyncio.run(ask({"type": "lifespan"}, other, own))
    assert seen == ["lifespan", "http"]
