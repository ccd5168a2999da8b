"""A run for others' tools: metrics for Prometheus, scalars for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry
from tensorboardX import SummaryWriter

from privemo.watching import Watch

__all__ = ["Exporter", "Scalars", "registry_of"]


class Exporter(Collector):
    """Metrics of a run, read off its folder whenever they are asked for.

    Args:
        watch: of the run.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client`."""
        now = self._watch.progress()
        plain: dict[str, tuple[str, float | None]] = {
            "privemo_rounds_whole": ("Rounds that are whole.", now.whole),
            "privemo_rounds_planned": ("Rounds of the run.", now.planned),
            "privemo_round_seconds": ("Seconds of a round, the last five.", now.seconds),
            "privemo_epsilon_budget": ("Most that any person may lose.", now.budget),
        }
        for name, (words, value) in plain.items():
            if value is not None:
                yield GaugeMetricFamily(name, words, value=value)
        epsilon = GaugeMetricFamily(
            "privemo_store_epsilon", "What a store's people have lost (RDP).", labels=["store"]
        )
        trained = GaugeMetricFamily(
            "privemo_store_rounds", "Rounds in which a store trained.", labels=["store"]
        )
        there = GaugeMetricFamily(
            "privemo_store_trained", "Whether it did in the last round.", labels=["store"]
        )
        for store in now.stores:
            if store.epsilon is not None:
                epsilon.add_metric([store.name], store.epsilon)
            trained.add_metric([store.name], store.rounds)
            there.add_metric([store.name], float(store.status == "trained"))
        yield from (epsilon, trained, there)


def registry_of(watch: Watch) -> CollectorRegistry:
    """What Prometheus's server takes; nothing of this process is in it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Exporter(watch))
    return registry


class Scalars:
    """Writes events for TensorBoard, a step for each round.

    Args:
        folder: for its files; made if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        self._writer = SummaryWriter(str(folder))

    def write(self, event: dict[str, Any]) -> None:
        """Add the figures of a round; they are in the file when this returns."""
        step, at = event["round"], datetime.fromisoformat(event["finished"]).timestamp()
        stores = event["stores"]
        trained = sum(told["status"] == "trained" for told in stores.values())
        self._writer.add_scalar("round/seconds", event["seconds"], step, at)
        self._writer.add_scalar("round/stores_trained", trained, step, at)
        for name, told in stores.items():
            if told["epsilon"] is not None:
                self._writer.add_scalar(f"epsilon/{name}", told["epsilon"], step, at)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
