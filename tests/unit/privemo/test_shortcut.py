"""Layers of Flower's that a request passes by: the ones that would have done nothing, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from flwr.superlink import main as superlink
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
    assert "RuntimeTracingMiddleware" in named(with_shortcuts(theirs))
    monkeypatch.setenv("FLWR_ENABLE_EVENT_LOG", "1")
    assert named(with_shortcuts(theirs)) == named(theirs)


def test_a_layer_nobody_knows_and_one_with_arguments_of_its_own_are_left_alone() -> None:
    class Another:
        def __init__(self, app: Any) -> None:
            self.app = app

    class ControlLicenseMiddleware(Another):
        pass

    layers = [Middleware(Another), Middleware(ControlLicenseMiddleware, 3)]  # type: ignore[arg-type]
    assert with_shortcuts(layers) == layers


def post(layers: list[Middleware], path: str) -> httpx.Response:
    """What a server with these layers answers."""

    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.url.path)

    async def asked() -> httpx.Response:
        app = Starlette(
            routes=[Route(p, answer, methods=["POST"]) for p in PATHS], middleware=layers
        )
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return await client.post(path)

    return asyncio.run(asked())


@pytest.mark.parametrize("name", sorted(ONLY_FOR))
def test_what_is_passed_by_would_have_changed_nothing(name: str) -> None:
    """Each layer alone, by Flower's rule and by ours, on every kind of path."""
    theirs = [m for m in superlink._get_middleware() if named([m]) == [name]]
    for path in PATHS:
        plain, short = post(theirs, path), post(with_shortcuts(theirs), path)
        assert short.status_code == plain.status_code
        assert short.content == plain.content
        assert dict(short.headers) == dict(plain.headers)


def test_operators_are_still_asked_who_they_are() -> None:
    """An app that does not know how to ask refuses; where the layer is passed by, nobody would notice."""
    name = "ControlAuthenticationMiddleware"
    asking = with_shortcuts([m for m in superlink._get_middleware() if named([m]) == [name]])
    assert post(asking, "/v1/control/start-run").status_code == 500
    assert post(asking, "/v1/fleet/pull-messages").status_code == 200


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
