"""Flower ClientApp of a store: the same for simulation and for deployment.

Which store this node is comes from the node's own configuration, never from the server:
`store-dir` in a deployment; in a simulation the partition number picks the folder in the run.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

from privemo import protocol, secure_protocol
from privemo import weights as w
from privemo.closing_records import closing_reply
from privemo.count_answers import ANSWERS
from privemo.errors import RunError
from privemo.flower import (
    ArrayRecord,
    ClientApp,
    ConfigRecord,
    Context,
    Message,
    MessageType,
    RecordDict,
)
from privemo.orders import RoundOrder
from privemo.secure_answers import later_steps
from privemo.secure_store import SecureStore
from privemo.store import REASONS, Store

__all__ = ["answer_train", "app", "replied", "store_folder"]

app = ClientApp()

_LATER = later_steps(SecureStore)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take part in one round, or answer why not."""
    return replied(message, context, answer_train)


@app.train("advertise")
def advertise(message: Message, context: Context) -> Message:
    """A secure sum, step 1: agree to the order, and send fresh keys."""
    return replied(message, context, _advertise)


@app.train("share")
def share(message: Message, context: Context) -> Message:
    """A secure sum, step 2: shares of secrets, in envelopes for the others."""
    return replied(message, context, _LATER["share"])


@app.train("mask")
def mask(message: Message, context: Context) -> Message:
    """A secure sum, step 3: train, and send the masked numbers."""
    return replied(message, context, _mask)


@app.train("confirm")
def confirm(message: Message, context: Context) -> Message:
    """A secure sum, step 4: sign who is in it."""
    return replied(message, context, _LATER["confirm"])


@app.train("reveal")
def reveal(message: Message, context: Context) -> Message:
    """A secure sum, step 5: the shares that unmask the sum."""
    return replied(message, context, _LATER["reveal"])


@app.query("close")
def close(message: Message, context: Context) -> Message:
    """The end of the run: sign it, if it is the end of what this store took part in."""
    return Message(closing_reply(store_folder(context), message.content), reply_to=message)


def _answer_counts(step: str) -> None:
    """Register one step of measuring, of counting, or of a secure sum of counts."""

    @app.query(step)
    def answer(message: Message, context: Context) -> Message:
        return replied(message, context, ANSWERS[step])


for _step in ANSWERS:
    _answer_counts(_step)


def replied(
    message: Message, context: Context, answer: Callable[[RecordDict, Store], RecordDict]
) -> Message:
    """What a store answers, or an error that names no more than its kind.

    Args:
        message: of the server.
        context: of the node.
        answer: from what came and the store to what is sent.

    Raises:
        RunError: the store failed.
    """
    try:
        store = Store(store_folder(context))
        try:
            content = answer(message.content, store)
        finally:
            store.close()
    except Exception as error:
        # Flower sends the text of an exception to the server, and ours may name paths, counts or
        # pseudonyms: only its kind leaves. The cause stays in this process's log.
        raise RunError(type(error).__name__) from error
    _tell_if_late(message)
    return Message(content, reply_to=message)


def _tell_if_late(message: Message) -> None:
    """Say in this store's log that an answer comes too late: nobody else tells it."""
    asked = message.metadata
    late = time.time() - asked.created_at - asked.ttl
    if late > 0 and asked.message_type in (MessageType.TRAIN, f"{MessageType.TRAIN}.mask"):
        logging.getLogger(__name__).warning(
            "Round %s: this store answers %.0f s too late. The server waited %.0f s and went on without it. "
            "What was trained is in the ledger, and paid for; ask whoever runs the server for a longer "
            "round_timeout.",
            asked.group_id,
            late,
            asked.ttl,
        )


def answer_train(content: RecordDict, store: Store) -> RecordDict:
    """Take part in one round, as records."""
    result = store.train_round(_model(content), _order(content))
    return protocol.pack_result(result)


def _advertise(content: RecordDict, store: Store) -> RecordDict:
    session = secure_protocol.session_from(content)
    try:
        advert = SecureStore(store).advertise(_order(content), session)
    except tuple(REASONS) as refusal:
        return secure_protocol.refusal_record(store.config.name, REASONS[type(refusal)])
    return secure_protocol.advert_record(store.config.name, advert)


def _mask(content: RecordDict, store: Store) -> RecordDict:
    masked = SecureStore(store).mask(
        secure_protocol.session_from(content),
        _model(content),
        _order(content),
        secure_protocol.bytes_from(content),
    )
    return secure_protocol.pack_masked(masked)


def _model(content: RecordDict) -> w.Weights:
    arrays = content.get(protocol.ARRAYS)
    if not isinstance(arrays, ArrayRecord):
        raise RunError("A training order holds a model.")
    return w.from_record(arrays)


def _order(content: RecordDict) -> RoundOrder:
    config = content.get(protocol.CONFIG)
    if not isinstance(config, ConfigRecord):
        raise RunError("A training order holds a configuration.")
    return protocol.order_from(config)


def store_folder(context: Context) -> Path:
    """The folder of this node's store.

    Raises:
        RunError: neither the node nor the environment says which one.
    """
    folder = context.node_config.get("store-dir")
    if folder:
        return Path(str(folder))
    run = context.run_config.get("run-dir") or os.environ.get("PRIVEMO_RUN_DIR")
    partition = context.node_config.get("partition-id")
    if not run or partition is None:
        raise RunError(
            "This node does not know its store: give `store-dir` in its node configuration."
        )
    folders = sorted(path for path in (Path(str(run)) / "stores").glob("*") if path.is_dir())
    if not 0 <= int(partition) < len(folders):
        raise RunError(f"{run} has {len(folders)} stores, and none for node {partition}.")
    return folders[int(partition)]
