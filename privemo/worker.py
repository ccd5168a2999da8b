"""A process that answers a grid's messages: `python -m privemo.worker LINE`, started by `privemo.workers`.

`LINE` is the number of a file descriptor. What crosses it is pickled, by and for the same code of the same
user: one model, which stands for itself in the messages after it, and messages with the contexts of their
nodes; back go replies, with what went wrong and the state that the node is to keep.
"""

from __future__ import annotations

import io
import logging
import os
import pickle
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue

from privemo.errors import RunError
from privemo.flower import ArrayRecord, Context, Message, RecordDict
from privemo.grid import answered, task_identity
from privemo.machine import tuned

__all__ = ["READY", "Answer", "Job", "main", "pickled"]

Job = tuple[Message, Context]
"""A message, and its node's context."""

Answer = tuple[Message, BaseException | None, RecordDict]
"""A reply, what went wrong if anything, and the state of the context since."""

READY = pickle.dumps(None)
"""What a process says first: everything is imported."""


class _Pickler(pickle.Pickler):
    def __init__(self, to: io.BytesIO, model: ArrayRecord | None) -> None:
        super().__init__(to, pickle.HIGHEST_PROTOCOL)
        self._model = model

    def persistent_id(self, found: object) -> str | None:
        return "model" if found is not None and found is self._model else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, model: ArrayRecord | None) -> None:
        super().__init__(io.BytesIO(data))
        self._model = model

    def persistent_load(self, name: str) -> ArrayRecord | None:
        return self._model


def pickled(what: object, model: ArrayRecord | None = None) -> bytes:
    """Bytes of a message; `model` is left out of it, for it was sent before."""
    to = io.BytesIO()
    _Pickler(to, model).dump(what)
    return to.getvalue()


def main(number: int) -> None:
    """Answer messages until the line ends.

    Args:
        number: file descriptor of the line.
    """
    from privemo.client_app import app

    logging.getLogger("flwr").setLevel(logging.WARNING)  # as in the process that started this one
    line, heard = Connection(number), SimpleQueue[bytes]()
    os.set_inheritable(number, False)
    threading.Thread(target=_listen, args=(line, heard), daemon=True).start()
    model: ArrayRecord | None = None
    with task_identity(), tuned():
        line.send_bytes(READY)
        while True:
            asked = _Unpickler(heard.get(), model).load()
            if isinstance(asked, ArrayRecord):
                model = asked
                continue
            message, context = asked
            reply, failure = answered(app, message, context)
            with suppress(OSError):  # whoever asked is gone: `_listen` sees it too
                line.send_bytes(pickled((reply, _portable(failure), context.state)))


def _listen(line: Connection, heard: SimpleQueue[bytes]) -> None:
    """Hear what comes, also while a store trains: when the line ends, so does everything."""
    try:
        while True:
            heard.put(line.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def _portable(error: BaseException | None) -> BaseException | None:
    """An error that comes out at the other end as it went in, or else one that has its text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - what was pickled here
    except Exception:
        return RunError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main(int(sys.argv[1]))
