"""Flower ClientApp of a store: the same for simulation and for deployment.

Which store this node is comes from the node's own configuration, never from the server:
`store-dir` in a deployment; in a simulation the partition number picks the folder in the run.
"""

from __future__ import annotations

import os
from pathlib import Path

from privemo import protocol
from privemo import weights as w
from privemo.errors import RunError
from privemo.flower import ArrayRecord, ClientApp, ConfigRecord, Context, Message, RecordDict
from privemo.store import Store

__all__ = ["app", "store_folder"]

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Take part in one round, or answer why not."""
    arrays, config = message.content[protocol.ARRAYS], message.content[protocol.CONFIG]
    if not (isinstance(arrays, ArrayRecord) and isinstance(config, ConfigRecord)):
        raise RunError("A training order holds a model and a configuration.")
    try:
        content = _answer(w.from_record(arrays), config, context)
    except Exception as error:
        # Flower sends the text of an exception to the server, and ours may name paths, counts or
        # pseudonyms: only its kind leaves. The cause stays in this process's log.
        raise RunError(type(error).__name__) from error
    return Message(content, reply_to=message)


def _answer(weights: w.Weights, config: ConfigRecord, context: Context) -> RecordDict:
    store = Store(store_folder(context))
    try:
        result = store.train_round(weights, protocol.order_from(config))
        return protocol.pack_result(result, store=store.config.name)
    finally:
        store.close()


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
    return Path(str(run)) / "stores" / f"store-{int(partition) + 1:02d}"
