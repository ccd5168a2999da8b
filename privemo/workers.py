"""Processes that answer a grid's messages side by side, as the stores of a chain would.

Each (`privemo.worker`) has everything imported, a share of the threads, and one message at a time; a message
goes to whichever is free. While one store waits for its disk, another computes.

| what happens | what comes of it |
|---|---|
| a store fails | an error reply, as in one process, and what went wrong in full |
| a process dies (memory ran out, `kill -9`) | an error reply of its store; another process is started |
| a process cannot start | `RunError` |
| Ctrl-C, or nobody asks for the replies any more | those at work are killed, which ledgers outlive |
| whoever started them dies | they see their line end, and stop at once |

They are started anew, not forked: threads of a numeric library would not survive that. And not by
`multiprocessing`, which would run a user's script once more in each.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from types import TracebackType
from typing import Self

from privemo.errors import RunError
from privemo.flower import ArrayRecord, Message
from privemo.grid import failed
from privemo.worker import Answer, Job, pickled

__all__ = ["Workers", "side_by_side", "threads_each"]

_LAST_WORDS_S = 10.0
_OURS = ("privemo", "privemo_consent", "privemo_audits")


@contextmanager
def side_by_side(count: int, threads: int | None) -> Iterator[Workers | None]:
    """Worker processes, if more than one is asked for.

    Args:
        count: how many.
        threads: of each; None shares out those that torch has here.
    """
    if count == 1:
        yield None
        return
    with Workers(count, threads=threads_each(count, threads)) as some:
        yield some


def threads_each(count: int, threads: int | None) -> int:
    """Threads of each of `count` processes: as told, or their share of those that torch has here."""
    import torch

    return threads or max(1, torch.get_num_threads() // count)


class Workers:
    """Answers messages in `count` processes: from the first message to the end of the `with` block.

    Args:
        count: how many.
        threads: that each of them computes with.
    """

    def __init__(self, count: int, *, threads: int) -> None:
        self._count, self._threads = count, threads
        self._all: list[_Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(self._all)

    @property
    def pids(self) -> list[int]:
        """Ids of the processes."""
        return [worker.process.pid for worker in self._all]

    def answers(self, jobs: Iterable[Job]) -> Iterator[tuple[Message, BaseException | None]]:
        """Replies as they come, each with what went wrong, if anything; contexts have their new states.

        Besides the one that is handed out, no more messages are under way than there are processes: none
        waits in memory.

        Raises:
            RunError: a process cannot be started.
        """
        waiting = _Waiting(jobs)
        self._end_busy()  # with messages that nobody asks for any more
        try:
            while self._hand_out(waiting):
                lines = {worker.line: worker for worker in self._all}
                for line in wait(list(lines)):
                    worker = lines[line]  # type: ignore[index]  # connections are all that it waited for
                    answer = self._heard(worker) if worker in self._all else None
                    if answer is not None:
                        self._hand_out(waiting)  # nobody is idle while this one is looked at
                        yield answer
        finally:
            self._end_busy()

    def _hand_out(self, waiting: _Waiting) -> bool:
        """Give messages to whoever is free; true while any is under way or waits."""
        while len(self._all) < self._count:
            self._all.append(_Worker.start(self._threads))
        for worker in [one for one in self._all if one.ready and one.job is None]:
            job = waiting.take()
            if job is None:
                break
            try:
                worker.give(job)
            except OSError:  # it died idle: nothing was begun
                waiting.put_back(job)
                self._end([worker])
        return waiting.more or any(worker.job for worker in self._all)

    def _heard(self, worker: _Worker) -> tuple[Message, BaseException | None] | None:
        """What a process said: the reply that it owed, or nothing that counts."""
        job = worker.job
        try:
            answer = worker.hear()
        except (EOFError, OSError) as gone:
            how = worker.ended()
            self._end([worker])
            if not worker.ready:
                raise RunError(
                    f"One of {self._count} worker processes was {how} before it could begin; what it said "
                    "stands above. Without --workers everything is one process."
                ) from gone
            return None if job is None else _lost(job, how)
        if job is None or answer is None:
            return None
        reply, failure, job[1].state = answer
        return reply, failure

    def _end_busy(self) -> None:
        self._end([worker for worker in self._all if worker.job])

    def _end(self, some: Iterable[_Worker]) -> None:
        for worker in list(some):
            worker.kill()
            self._all.remove(worker)


def _lost(job: Job, how: str) -> tuple[Message, RunError]:
    message, context = job
    name = Path(str(context.node_config.get("store-dir", f"node {context.node_id}"))).name
    text = f"The process that answered for {name} was {how}; if memory ran out, take fewer workers."
    return failed(message, f"its process was {how}"), RunError(text)


class _Waiting:
    """Messages that no process has yet, drawn as they are needed."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._jobs, self._back = iter(jobs), list[Job]()
        self.more = True

    def take(self) -> Job | None:
        """The next one; None when there is none."""
        job = self._back.pop() if self._back else next(self._jobs, None)
        self.more = job is not None
        return job

    def put_back(self, job: Job) -> None:
        """It was not begun."""
        self._back.append(job)
        self.more = True


class _Worker:
    """One process, as seen from the grid.

    Attributes:
        process: it.
        line: to it; there is something to read when it spoke, or died.
        ready: it has imported everything.
        job: what it works on.
    """

    def __init__(self, process: subprocess.Popen[bytes], line: Connection) -> None:
        self.process, self.line, self.ready = process, line, False
        self.job: Job | None = None
        self._model: ArrayRecord | None = None

    @classmethod
    def start(cls, threads: int) -> Self:
        """Start one; it says when it is ready.

        Raises:
            RunError: the system starts no more.
        """
        mine, its = Pipe()
        told = {
            "OMP_NUM_THREADS": str(threads),
            # What this process imports, and nothing of a folder that it happens to stand in.
            "PYTHONPATH": os.pathsep.join(_places()),
        }
        try:
            with its, _deaf_to_ctrl_c():
                process = subprocess.Popen(  # noqa: S603 - this interpreter, this package
                    [sys.executable, "-P", "-m", "privemo.worker", str(its.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[its.fileno()],
                    env={**os.environ, **told},
                )
        except OSError as error:
            mine.close()
            raise RunError(f"No worker process could be started ({error.strerror}).") from error
        return cls(process, mine)

    def give(self, job: Job) -> None:
        """Hand over a message, and before it the model, where that is not the one it has.

        Raises:
            OSError: it is dead.
        """
        records = job[0].content.values()
        model = next((record for record in records if isinstance(record, ArrayRecord)), None)
        if model is not None and model is not self._model:
            self.line.send_bytes(pickled(model))
            self._model = model
        self.line.send_bytes(pickled(job, model))
        self.job = job

    def hear(self) -> Answer | None:
        """What it says: None once, when it is ready; then answers.

        Raises:
            EOFError, OSError: it died.
        """
        said: Answer | None = pickle.loads(self.line.recv_bytes())  # noqa: S301 - see `privemo.worker`
        self.ready, self.job = True, None
        return said

    def ended(self) -> str:
        """How it died, for a sentence."""
        try:
            code = self.process.wait(_LAST_WORDS_S)
        except subprocess.TimeoutExpired:
            return "silent"
        return f"ended by {signal.Signals(-code).name}" if code < 0 else f"gone (exit code {code})"

    def kill(self) -> None:
        """End it now, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.line.close()


def _places() -> list[str]:
    """Where another process finds what this one imports: our packages as they are loaded here.

    "" is whatever folder this process stands in by now, and no place. The order is kept, for what stands
    before the standard library hides parts of it.
    """
    places = [os.path.abspath(place) for place in sys.path if place]
    for name in _OURS:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file is not None:
            first = (n for n, place in enumerate(places) if PathFinder.find_spec(name, [place]))
            places.insert(next(first, len(places)), os.path.dirname(os.path.dirname(file)))
    return list(dict.fromkeys(places))


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """What is started in here never hears Ctrl-C, which a terminal sends to all: who started it ends it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
