"""What the layers before Flower's SuperLink share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Message, Receive

__all__ = ["again"]


def again(message: Message, receive: Receive) -> Receive:
    """The `receive` of a layer behind: what was read already, and then what comes.

    Args:
        message: that was read.
        receive: where it was read from.
    """
    first = iter([message])

    async def both() -> Message:
        return next(first, None) or await receive()

    return both
