"""Flower's two daemons of a store, with less waiting: `python -m privemo.federation.daemons`.

Flower's SuperNode looks for messages every three seconds, and its SuperExec starts a process for each, which
imports everything anew: some ten seconds a message, and a round of distributed noise has five. Here

- the node looks more often while a round is under way, and at once when its app has answered (`Attentive`),
- it rings when there is a task (`privemo.federation.bell`), and
- the process that a message gets is a fork of one in which everything is imported (`Forks`).

None of them changes what is sent. And a line that breaks while it is being secured is a broken line, to be
tried again (`is_cut`): Flower takes it for a server that is not to be trusted, and a store would be gone
until somebody started it anew. A store runs the app that is installed on its machine, and none that its
server sends: that one is neither installed nor imported, or whoever runs the server would run code of their
own beside people's faces and keys. The node's interface for its own apps is on loopback, and gives no task to
whoever lacks the secret of this start; Flower's default lets every user of the machine take one.

Both end with the process that started them (`privemo.federation.lifeline`), as the server's SuperLink does
(`privemo.federation.doorkeeper`).
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from privemo.federation.bell import Listener, ring_for_messages
from privemo.federation.lifeline import to_the_end
from privemo.federation.orphans import go_on_without_dead_apps
from privemo.machine import quiet_environment

__all__ = [
    "Attentive",
    "Forks",
    "import_what_forks_need",
    "is_cut",
    "main",
    "stir_when_stored",
    "try_cut_lines_again",
]

_USED_LATE = (
    "privemo.client_app",
    "flwr.supernode.runtime.run_clientapp",
    "pandas",
    "privemo_consent.witnessing",
    "torch._dynamo",
)

_IN_A_ROUND_S, _SHORTEST_S = 1.0, 0.1
_FASTER, _SLOWER = 1.2, 1.005
# From a tenth of a second to one in 13 looks, and in six minutes to the three that Flower sleeps.


class Attentive:
    """Stands for the module `time` where Flower's node sleeps between two looks for messages.

    After a message it looks often, then less and less so: about once a second for as long as a round may be
    under way, and a chain of stores at rest asks its server every three seconds, as Flower's own nodes do. A
    question that the server held (`privemo.federation.longpoll`) was waiting, too, and counts as such. While
    an app is at work it waits until something of the app's answer is there.
    """

    def __init__(self) -> None:
        self._next = _IN_A_ROUND_S
        self._woke = time.monotonic()
        self._stirred = threading.Event()

    def __getattr__(self, name: str) -> Any:
        """All else is that of `time`."""
        return getattr(time, name)

    def stir(self) -> None:
        """Something of an app's answer has come; called from any thread."""
        self._stirred.set()

    def sleep(self, seconds: float) -> None:
        """Wait at most so long."""
        if seconds < _IN_A_ROUND_S:  # an app is at work: there will be more messages
            self._next = _SHORTEST_S
            self._stirred.wait(seconds)
            self._stirred.clear()
        else:
            asked = time.monotonic() - self._woke
            time.sleep(max(0.0, min(seconds, self._next) - asked))
            self._next *= _FASTER if self._next < _IN_A_ROUND_S else _SLOWER
        self._woke = time.monotonic()


def stir_when_stored(place: Any, stir: Callable[[], None]) -> None:
    """Have whoever waits for an app's answer told of each part of it.

    Args:
        place: Flower's class of a node's state.
        stir: called after each part.
    """
    for name in ("store_message_and_object_tree", "store_object"):
        setattr(place, name, _then(getattr(place, name), stir))


def _then(do: Callable[..., Any], after: Callable[[], None]) -> Callable[..., Any]:
    @functools.wraps(do)
    def both(*given: Any, **named: Any) -> Any:
        try:
            return do(*given, **named)
        finally:
            after()

    return both


class Forks:
    """Flower's executor of tasks (`flwr.supercore.superexec.executor.Executor`), by forks of this process.

    What is imported here is there at once. Nothing has been computed before the fork: threads of a numeric
    library would not survive it.
    """

    def __init__(self) -> None:
        self._mine = os.getpid()

    def get_eligible_capacity(
        self, supported_task_types: set[Any], **_: Any
    ) -> tuple[set[Any], set[str]]:
        """There is room for anything; a node hands out one message at a time."""
        return supported_task_types, set()

    def wait_for_capacity(self, task_type: Any = None, **_: Any) -> None:
        """There is room for anything."""

    def launch(self, spec: Any) -> Any:
        """Run the app of a message in a process of its own."""
        from flwr.supercore.constant import TaskType
        from flwr.supercore.superexec.executor import LaunchResult

        if spec.task_type is not TaskType.CLIENT_APP:
            return LaunchResult.failed(f"A store runs no {spec.task_type}.")
        if os.fork() == 0:
            self._run(spec)
        return LaunchResult.accepted()

    def _run(self, spec: Any) -> None:
        code = 1
        try:
            from flwr.supernode.runtime import run_clientapp

            _only_our_app(vars(run_clientapp))
            run_clientapp.run_clientapp(
                runtime_api_address=spec.runtime_api_address,
                token=spec.token,
                insecure=spec.insecure,
                parent_pid=self._mine,
                runtime_dependency_install=False,
            )
        except SystemExit as done:
            code = int(done.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)  # nothing of the parent's is to be wound up here

    def reconcile(self) -> None:
        """Forget forks that are done."""
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def close(self) -> None:
        """Nothing to release; forks watch their parent."""


def _only_our_app(flower: dict[str, Any]) -> None:
    """Let Flower's runner take privemo's app, whatever app came with the message."""
    from privemo.client_app import app

    flower["install_from_fab"] = lambda *_args, **_more: None
    flower["get_load_client_app_fn"] = lambda *_args, **_more: lambda *_names: app


_CUT = ("eof occurred", "unexpected_eof", "timed out", "reset by peer", "broken pipe")


def is_cut(error: BaseException) -> bool:
    """Whether a connection broke off while it was being secured, with nothing said against a certificate."""
    text = str(error).lower()
    return "certificate" not in text and any(sign in text for sign in _CUT)


def try_cut_lines_again(place: Any) -> None:
    """Let the connection to the server outlive a line that is cut.

    Args:
        place: the module of Flower's that connects a node.
    """
    make = place.make_simple_http_retry_invoker

    def patient() -> Any:
        invoker = make()
        gives_up = invoker.should_giveup
        invoker.should_giveup = lambda error: not is_cut(error) and gives_up(error)
        return invoker

    place.make_simple_http_retry_invoker = patient


def import_what_forks_need() -> None:
    """Import what the app of a message uses, now; each fork would do so anew.

    Not all of that is imported where it is named: PyTorch's optimizers load its compiler at their first step,
    and what counts and measures in here loads pandas.
    """
    for name in _USED_LATE:
        importlib.import_module(name)
    gc.freeze()  # or the collector of a fork would copy every page that it looks at


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `supernode` or `superexec` with the arguments of Flower's command of that name."""
    quiet_environment()
    kind, *others = sys.argv[1:] if arguments is None else arguments
    sys.argv = [f"flower-{kind}", *others]
    daemons = {"supernode": _supernode, "superexec": _superexec}
    if kind not in daemons:
        raise SystemExit(f"{kind!r} is neither supernode nor superexec.")
    to_the_end(daemons[kind])


def _supernode() -> None:
    from flwr.supernode import fleet_http_connection, start_client_internal
    from flwr.supernode.cli import flower_supernode
    from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

    from privemo.polling import look_again_soon

    look_again_soon()
    try_cut_lines_again(fleet_http_connection)
    go_on_without_dead_apps(start_client_internal)
    ring_for_messages(start_client_internal)
    clock = Attentive()
    stir_when_stored(InMemoryNodeState, clock.stir)
    vars(start_client_internal)["time"] = clock
    flower_supernode()


def _superexec() -> None:
    from flwr.supercore.cli import flower_superexec
    from flwr.supercore.superexec import run_superexec

    import_what_forks_need()
    from privemo.polling import look_again_soon
    from privemo.unlocking import take_over

    take_over()
    look_again_soon()
    vars(run_superexec).update(get_executor=lambda *_args, **_more: Forks(), time=Listener())
    flower_superexec()


if __name__ == "__main__":
    main()
