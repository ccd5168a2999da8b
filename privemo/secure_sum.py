"""One secure sum over a grid: the five messages to every store, and what comes back.

Whatever is wrong with one store's answer leaves that store out, and is named; with too few left the sum fails
as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from privemo import protocol, secure_protocol
from privemo.errors import RunError, SecureSumError, UpdateRejected
from privemo.files import write_bytes
from privemo.flower import ArrayRecord, ConfigRecord, Grid, Message, MessageType, RecordDict
from privemo.orders import RoundOrder
from privemo.replies import failed_entry, named_and_others, printable, told_entry
from privemo.secagg import Collector, Lattice
from privemo.statements import Signed, Statement

__all__ = ["GridSum", "KeptSum", "SecureSum"]


@dataclass(frozen=True)
class KeptSum:
    """A sum whose numbers are all there."""

    round: int
    model_in: str
    stores: dict[str, dict[str, Any]]
    collector: Collector

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        said = {"round": self.round, "model_in": self.model_in, "stores": self.stores}
        head = json.dumps(said).encode()
        write_bytes(path, len(head).to_bytes(8) + head + self.collector.to_bytes())

    @classmethod
    def read(cls, path: Path, roster: Mapping[str, bytes]) -> KeptSum:
        """Read what `write` wrote.

        Raises:
            RunError: it is damaged.
        """
        data = path.read_bytes()
        size = 8 + int.from_bytes(data[:8])
        try:
            said = json.loads(data[8:size])
            collector = Collector.from_bytes(data[size:], roster)
            return cls(said["round"], said["model_in"], said["stores"], collector)
        except (KeyError, TypeError, ValueError, SecureSumError) as error:
            raise RunError(
                f"{path} is damaged ({error}); delete it to take the round anew."
            ) from error


class GridSum:
    """One secure sum over a grid, whatever it is a sum of.

    Args:
        grid: of the stores.
        collector: of this sum.
        timeout: seconds that a store has for a step.
        stores: what a sum that goes on after a restart knew of the stores.
    """

    asked = MessageType.TRAIN
    """What kind of message carries the steps."""

    def __init__(
        self,
        grid: Grid,
        collector: Collector,
        timeout: float,
        *,
        stores: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.session, self.collector = collector.session, collector
        self.resumed = stores is not None
        self.stores = stores or {}
        self._grid, self._timeout = grid, timeout
        self._nodes: dict[str, int] = {}

    def gather_keys(self, asked: ConfigRecord) -> None:
        """Step 1, of every node that is there; `asked` says what is to be summed up."""
        content = {protocol.CONFIG: asked}

        def take(_: str, reply: Message) -> None:
            name = secure_protocol.text_from(reply.content, "store")
            try:
                reason = secure_protocol.text_from(reply.content, "reason")
            except RunError:
                self.collector.take_advert(name, secure_protocol.advert_from(reply.content))
                self._nodes[name] = reply.metadata.src_node_id
            else:
                if name not in self.collector.adverts:
                    self._leave(name, "refused", reason)

        self._ask("advertise", self._everyone(), lambda _: content, take)
        for name, reason in self.collector.close_adverts().items():
            self._nodes.pop(name, None)
            self._leave(name, "failed", f"rejected: {reason}")
        self._require(list(self.collector.adverts), "sent keys")

    def gather_envelopes(self) -> None:
        """Step 2, of those who sent keys."""
        content = {secure_protocol.CONTENT: secure_protocol.adverts_record(self.collector.adverts)}

        def take(name: str, reply: Message) -> None:
            self.collector.take_envelopes(name, *secure_protocol.envelopes_from(reply.content))

        self._ask("share", self._nodes, lambda _: content, take)
        self._require(self.collector.partners, "shared secrets")

    def confirm(self) -> None:
        """Step 4, of those whose numbers came; after a restart every node is asked who it is."""
        content = {secure_protocol.CONTENT: ConfigRecord({"summed": self.collector.summed})}

        def take(_: str, reply: Message) -> None:
            name = secure_protocol.text_from(reply.content, "store")
            if name not in self.collector.signatures:
                signature = secure_protocol.signature_from(reply.content)
                self.collector.take_signature(name, signature)
                self._nodes[name] = reply.metadata.src_node_id

        nodes = self._everyone() if self.resumed else self._summed()
        self._ask("confirm", nodes, lambda _: content, take)
        self._require(list(self.collector.signatures), "confirmed the sum")

    def unmask(self) -> np.ndarray[Any, np.dtype[np.uint32]]:
        """Step 5, and the sum."""
        signatures = secure_protocol.bytes_record(self.collector.signatures)

        def take(name: str, reply: Message) -> None:
            self.collector.take_reveal(name, secure_protocol.reveal_from(reply.content))

        signed = {name: self._nodes[name] for name in self.collector.signatures}
        self._ask("reveal", signed, lambda _: {secure_protocol.CONTENT: signatures}, take)
        try:
            return self.collector.total()
        finally:  # also where too few true shares are left
            for name, of in self.collector.liars.items():
                self._leave(name, "failed", f"rejected: it gave false shares of {_few(of)}")

    # -- messages ----------------------------------------------------------------------------

    def _everyone(self) -> dict[str, int]:
        return {f"node-{node}": node for node in sorted(self._grid.get_node_ids())}

    def _summed(self) -> dict[str, int]:
        return {name: self._nodes[name] for name in self.collector.summed}

    def _message(
        self, step: str, node: int, content: Mapping[str, Any], patience: float | None = None
    ) -> Message:
        records = {secure_protocol.SESSION: secure_protocol.session_record(self.session), **content}
        return Message(
            RecordDict(records),
            dst_node_id=node,
            message_type=f"{self.asked}.{step}",
            group_id=str(self.session.round),
            ttl=patience or self._timeout,
        )

    def _ask(
        self,
        step: str,
        nodes: Mapping[str, int],
        content: Callable[[str], Mapping[str, Any]],
        take: Callable[[str, Message], None],
    ) -> None:
        messages = [self._message(step, node, content(name)) for name, node in nodes.items()]
        replies = self._grid.send_and_receive(messages, timeout=self._timeout)
        self._take(replies, {node: name for name, node in nodes.items()}, take)

    def _take(
        self,
        replies: Iterable[Message],
        names: Mapping[int, str],
        take: Callable[[str, Message], None],
    ) -> None:
        """Hand replies on in the order of the stores; what is wrong with one leaves its store out."""
        for reply in sorted(replies, key=lambda r: names.get(r.metadata.src_node_id, "")):
            name = names.get(reply.metadata.src_node_id)
            if name is None:
                continue
            if reply.has_error():
                self._leave(name, "failed", f"error: {reply.error.reason or reply.error.code}")
                continue
            try:
                take(name, reply)
            except Exception as wrong:
                # A reply is data from outside, and Flower's records fail in many ways: never the round.
                self._leave(name, "failed", f"rejected: {wrong}")

    def _leave(self, name: str, status: str, reason: str) -> None:
        reason = printable(reason)
        entry = self.stores.get(name)
        if entry is not None and entry["status"] == "trained":  # its numbers count all the same
            self.stores[name] = {**entry, "reason": reason}
        else:
            self.stores[name] = failed_entry(reason, status)

    def _require(self, names: list[str], what: str) -> None:
        try:
            self.collector.require(names, what)
        except SecureSumError as error:
            reasons = [f"{n}: {s['reason']}" for n, s in sorted(self.stores.items()) if s["reason"]]
            raise RunError(" ".join([str(error), *reasons[:5]])) from error


class SecureSum(GridSum):
    """The sum of a round's clipped gradients.

    Args:
        grid, collector, timeout, stores: as of `GridSum`.
        lattice: how gradients are whole numbers.
    """

    def __init__(
        self,
        grid: Grid,
        collector: Collector,
        lattice: Lattice,
        timeout: float,
        *,
        stores: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(grid, collector, timeout, stores=stores)
        self.lattice = lattice

    def training_messages(
        self, arrays: ArrayRecord, order: RoundOrder, patience: float
    ) -> list[Message]:
        """Step 3, to those who shared secrets; they have `patience` seconds."""
        record = protocol.order_record(order)
        return [
            self._message(
                "mask",
                self._nodes[name],
                {
                    protocol.ARRAYS: arrays,
                    protocol.CONFIG: record,
                    secure_protocol.CONTENT: secure_protocol.bytes_record(
                        self.collector.envelopes_for(name)
                    ),
                },
                patience,
            )
            for name in self.collector.partners
        ]

    def take_vectors(
        self, replies: Iterable[Message], check: Callable[[Signed], Statement]
    ) -> None:
        """What comes of step 3, as it comes; `check` raises `UpdateRejected` at what does not count."""

        def take(name: str, reply: Message) -> None:
            masked = secure_protocol.masked_from(reply.content)
            statement = check(masked.signed)
            if statement.store != name:
                raise UpdateRejected("its statement is another store's")
            if (masked.vector is None) != (statement.update_sha256 is None):
                raise UpdateRejected("it names what did not come with it, or not what did")
            if masked.vector is not None:
                self.collector.take_masked(name, masked.vector)
            self.stores[name] = told_entry(statement, masked.signed)

        names = {self._nodes[name]: name for name in self.collector.partners}
        for reply in replies:
            self._take([reply], names, take)
        self._require(self.collector.summed, "sent what they trained")

    def manifest(self) -> dict[str, Any]:
        """What a round's manifest says of it."""
        silent = set(self.session.members) - {n for n in self.stores if n in self.session.members}
        for name in silent:
            self._leave(name, "failed", "silent")
        return {
            "secure_sum": {
                "attempt": self.session.attempt,
                "enough": self.session.enough,
                "summed": self.collector.summed,
            },
            **named_and_others(self.stores, self.session.members),
        }


def _few(names: list[str]) -> str:
    """The first names of a list, which may be that of all stores."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
