"""The one place that imports Flower, so that it never phones home.

Flower reads its telemetry switch when it is imported. The switches are set first; and where a user's own
code imported Flower before, the value that it read is put right.
"""

from __future__ import annotations

from privemo.machine import quiet_environment

quiet_environment()

# ruff: noqa: E402  (the switches come first)
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MessageType,
    Metadata,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE, ErrorCode
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import (
    decrypt,
    encrypt,
    generate_shared_key,
)
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Strategy
from flwr.serverapp.strategy.fedtrimmedavg import trim_mean
from flwr.serverapp.strategy.multikrum import select_multikrum
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords
from flwr.supercore import telemetry
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)
from flwr.supercore.run import Run as FlowerRun
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.grid.http_grid import HttpGrid

telemetry.FLWR_TELEMETRY_ENABLED = "0"

__all__ = [
    "SYSTEM_TIME_TOLERANCE",
    "TIMESTAMP_TOLERANCE",
    "Array",
    "ArrayRecord",
    "ClientApp",
    "ConfigRecord",
    "Context",
    "Error",
    "ErrorCode",
    "FedAvg",
    "FlowerRun",
    "Grid",
    "HttpGrid",
    "Message",
    "MessageType",
    "Metadata",
    "MetricRecord",
    "RecordDict",
    "ServerApp",
    "Strategy",
    "TaskIdentity",
    "aggregate_metricrecords",
    "bytes_to_private_key",
    "bytes_to_public_key",
    "combine_shares",
    "create_shares",
    "decrypt",
    "encrypt",
    "generate_key_pairs",
    "generate_shared_key",
    "inflatable_utils",
    "private_key_to_bytes",
    "public_key_to_bytes",
    "select_multikrum",
    "trim_mean",
]
