"""Who may be connected, and for how long: a browser that sends half a request holds nothing for long.

uvicorn waits for the rest of a request for as long as the line stands, and refuses everybody once it holds
as many connections as it may: a thousand half-sent headers shut a kiosk (slowloris, CWE-400). Two guards:

* `Door` is the listening socket. It counts connections as they come in, before TLS and before HTTP: so many
  from one address, so many in all, and a reserve that the kiosk's own screens alone may use.
* `Prompt` is uvicorn's own protocol with a clock: a request whose head or body does not become whole, and
  an answer that nobody takes, end the connection.

RFC 9110 (15.5.9) has an answer for the first, 408. It is left out: browsers open connections in advance
and take an answer to nothing for a fault. A form whose body comes too slowly gets one (`Web.page`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any, Literal

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .limits import Patience, counted_as, plain

__all__ = ["Door", "Prompt", "event_loop", "prompt_protocol"]

_LOGGER = logging.getLogger("privemo.consent.kiosk")
_SAY_EVERY_S = 60.0
_REFUSED_AT_ONCE = 64
#: asyncio's own limit for a TLS handshake is a minute.
_HANDSHAKE_S = 10.0


class Door(socket.socket):
    """A listening socket that lets in no more than it should. For asyncio; used from one thread.

    Args:
        family: ``AF_INET`` or ``AF_INET6``.
        patience: the numbers.
        screens: addresses whose connections the reserve is for.
        proxy: the address of a proxy that everybody comes from; it counts by itself.

    """

    def __init__(
        self,
        family: int,
        patience: Patience,
        *,
        screens: Collection[str] = (),
        proxy: str | None = None,
    ) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self.patience = patience
        self._screens = frozenset(map(plain, screens))
        self._proxy = None if proxy is None else plain(proxy)
        # Whoever is in one network of 64 bits with them has neither their places nor the proxy's freedom.
        self._apart = self._screens | ({self._proxy} if self._proxy is not None else set())
        self.open: Counter[str] = Counter()
        self._turned_away = 0
        self._said = -math.inf

    def accept(self) -> tuple[socket.socket, Any]:
        """Return the next connection that may come in; whatever may not is closed at once.

        Raises:
            BlockingIOError: nobody waits, or only such as may not come in, for now.

        """
        for _ in range(_REFUSED_AT_ONCE):
            connection, peer = super().accept()
            address = counted_as(str(peer[0]), self._apart)
            if self._may_come_in(address):
                return _Counted(connection, self.open, address), peer
            connection.close()
            self._turned_away += 1
            self._say()
        raise BlockingIOError  # the loop has others to serve, and comes back

    def _may_come_in(self, address: str) -> bool:
        room = self.patience.most
        if address not in self._screens:
            room -= self.patience.reserved
        if self.open.total() >= room:
            return False
        return address == self._proxy or self.open[address] < self.patience.each

    def _say(self) -> None:
        """Tell the log now and then, by number: an address is personal data."""
        now = time.monotonic()
        if now - self._said >= _SAY_EVERY_S:
            _LOGGER.warning(
                "connections are turned away: too many at once; %d since this was last said",
                self._turned_away,
            )
            self._said, self._turned_away = now, 0


class _Counted(socket.socket):
    """A connection that is counted until it is closed."""

    def __init__(self, accepted: socket.socket, open_: Counter[str], address: str) -> None:
        super().__init__(fileno=accepted.detach())
        self._open: Counter[str] | None = open_
        self._address = address
        open_[address] += 1

    def close(self) -> None:
        super().close()
        if self._open is not None:
            self._open[self._address] -= 1
            if self._open[self._address] <= 0:
                del self._open[self._address]  # bounded by who is here
            self._open = None


_Wait = Literal["head", "body"]


class Prompt(H11Protocol):
    """uvicorn's HTTP/1.1, which waits as long as `Patience` says and no longer."""

    patience = Patience()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waits: tuple[_Wait, object] | None = None
        self._late: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take some bytes; a byte now and then buys no time."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """See that the answer is taken, and what the browser has sent meanwhile."""
        super().on_response_complete()
        self._watch()
        self._see_it_taken()

    def pause_writing(self) -> None:
        """The browser takes less than it is given: so much time it has, and no more."""
        super().pause_writing()
        self._see_it_taken()

    def _see_it_taken(self) -> None:
        if self._untaken is None and self.transport.get_write_buffer_size():
            self._untaken = self.loop.call_later(
                self.patience.take_s, self._end_untaken, self.cycle
            )

    def _end_untaken(self, cycle: object) -> None:
        self._untaken = None
        if cycle is not self.cycle:
            self._see_it_taken()  # that answer was taken; another one waits now
        elif self.transport.get_write_buffer_size():
            self.transport.abort()  # to close would wait until it is taken

    def _watch(self) -> None:
        """Set the clock for what the browser has to do next; for the same thing it is never set again."""
        waits = self._next()
        if waits == self._waits:
            return
        if self._late is not None:
            self._late.cancel()
        self._waits, self._late = waits, None
        if waits is not None:
            seconds = self.patience.head_s if waits[0] == "head" else self.patience.body_s
            self._late = self.loop.call_later(seconds, self.transport.abort)

    def _next(self) -> tuple[_Wait, object] | None:
        """Return what is missing, and of which request; None where it is our turn, or nobody's."""
        if self.transport.is_closing():
            return None
        theirs = self.conn.their_state
        if theirs is h11.SEND_BODY:
            return "body", self.cycle
        # Between two requests uvicorn's own clock runs; it stops at the first byte of the next.
        if theirs is h11.IDLE and (self.cycle is None or self.conn.trailing_data[0]):
            return "head", self.cycle
        return None

    def _stop(self) -> None:
        for clock in (self._late, self._untaken):
            if clock is not None:
                clock.cancel()
        self._late = self._untaken = None


def prompt_protocol(patience: Patience) -> type[Prompt]:
    """Return the protocol with these waits: uvicorn makes one for each connection, and takes no argument."""
    return type("Prompt", (Prompt,), {"patience": patience})


class _Loop(asyncio.SelectorEventLoop):
    """asyncio's loop, on which a TLS handshake does not take a minute."""

    async def create_server(self, *args: Any, **kwargs: Any) -> asyncio.Server:
        if kwargs.get("ssl") is not None:
            kwargs.setdefault("ssl_handshake_timeout", _HANDSHAKE_S)
        return await super().create_server(*args, **kwargs)


event_loop: Callable[[], asyncio.AbstractEventLoop] = _Loop
"""Makes the loop; uvicorn takes it by name. uvloop would not ask a `Door`."""
