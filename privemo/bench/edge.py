"""Reading faces on a store's small computer: one core, no torch.

The models are the bundled weights in 32 and in 8 bits, the faces people who do not exist, the consent that of
a simulation. Everything is measured in a fresh process that is kept on one core. Figures of processor time
stand beside those of the clock: on a machine that others use, the first are the ones to go by.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from privemo.bench import Figure
from privemo.recognizer.card import (
    Abstention,
    Agreement,
    Form,
    ModelCard,
    PrivacyStatement,
    SelfCheck,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from privemo_consent import SigningKey

__all__ = ["figures", "unmeasured_card"]

CALIBRATED_ON, PEOPLE = 24, 8
_PERSON = "nobody"
_GOALS = {
    "classify_ms_p50": 1.0,
    "road_ms_p95": 33.0,
    "start_s": 1.0,
    "memory_mb": 250.0,
}
_UNITS = {
    "classify_fp32_ms_p50": "ms a face",
    "classify_int8_ms_p50": "ms a face",
    "classify_ms_p50": "ms a face, the faster of the two",
    "road_ms_p50": "ms a frame of 640x480",
    "road_ms_p95": "ms a frame of 640x480: two decisions logged, detector, age, emotion",
    "road_cpu_ms_p50": "ms of the processor a frame",
    "read_share": "of frames",
    "start_s": "s from nothing to ready",
    "start_cpu_s": "s of the processor",
    "memory_mb": "MB at most",
}


def figures(*, times: int = 200) -> Iterator[Figure]:
    """Measure.

    Args:
        times: how often each thing is done.
    """
    with tempfile.TemporaryDirectory(prefix="privemo-bench-") as folder:
        _prepare(Path(folder))
        code = f"from privemo.bench.edge import in_child; in_child({folder!r}, {times}, {{}})"
        began = time.time()
        done = subprocess.run(
            [sys.executable, "-c", code.format(began)],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for name, value in json.loads(done.stdout).items():
            goal = _GOALS.get(name)
            yield Figure(
                figure=name,
                value=float(value),
                unit=_UNITS[name],
                goal=None if goal is None else f"< {goal:g}",
                met=None if goal is None else bool(value < goal),
            )


def unmeasured_card(body: bytes, form: Form, channels: int = 1) -> ModelCard:
    """A card of bundled weights, for benchmarks: it states of no run and nothing that was measured."""
    from privemo.exporting.graph import said_by
    from privemo.recognizer.runtime import pattern

    said = said_by(body, pattern(channels))[0].astype(float).clip(0, 1).tolist()
    return ModelCard(
        run_id="no-run",
        exported=datetime(2026, 1, 1, tzinfo=UTC),
        form=form,
        architecture="emotion-cnn",
        channels=channels,
        weights_sha256="0" * 64,
        trained_on={"origin": "people who do not exist"},
        start="random",
        simulated_consents=True,
        privacy=PrivacyStatement(
            private=False,
            epsilon=None,
            delta=None,
            neighbouring=None,
            audit="failed",
            report_sha256="0" * 64,
        ),
        agreement=Agreement(
            people=1, faces=1, difference=0, accuracy_torch=0, accuracy=0, calibrated_on=0
        ),
        abstention=Abstention(
            threshold=0, coverage=1, read=1, read_ci=(0, 1), accuracy=None, faces=1
        ),
        check=SelfCheck(probabilities=tuple(said), tolerance=0.05),
        versions={"privemo": "bench"},
    )


def _prepare(folder: Path) -> None:
    """Models, a registry and frames, for the process that is measured."""
    from privemo import weights as w
    from privemo.exporting.graph import Reads, graph, plain, quantized
    from privemo.exporting.packing import packed
    from privemo.synthetic import synthesize
    from privemo_consent import SigningKey

    weights, _ = w.initial_weights("nobody", model="emotion-cnn", channels=1, seed=0)
    body = graph(Reads(plain(w.model_for("emotion-cnn", weights).eval())).eval(), 1)
    small = quantized(body, synthesize(CALIBRATED_ON, 1, seed=1).images)
    key: SigningKey = SigningKey.generate("bench")
    for form, graph_ in (("fp32", body), ("int8", small)):
        card = unmeasured_card(graph_, form)  # type: ignore[arg-type]
        (folder / f"{form}.onnx").write_bytes(packed(graph_, card, key))
    (folder / "key").write_text(str(key.verifying))
    adults = synthesize(PEOPLE, 1, seed=5, channels=3, size=240, ages=(30.0, 90.0))
    np.save(folder / "frames.npy", np.stack([_scene(face) for face in adults.images]))
    _agree(folder / "consent.sqlite")


def _scene(face: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame of 640x480 with one face of half its height."""
    x = np.linspace(40, 200, 640)
    wall = np.repeat(np.repeat(x[None, :, None], 480, 0), 3, 2).astype(np.uint8)
    wall[120:360, 200:440] = face
    return wall


def _agree(where: Path) -> None:
    from privemo_consent import AgeBand, ConsentRegistry, Party, Purpose
    from privemo_consent.notices.simulated import simulated_notice

    party = Party(
        id="urn:privemo:bench", name="A Chain", address="1 Main Street", contact="b@e.org"
    )
    with ConsentRegistry.create(where, mode="simulation", controller=party) as registry:
        notice = simulated_notice(party, jurisdiction="IE")
        registry.notice(notice)
        registry.announce_reading(notice, place="nowhere")
        registry.grant(
            _PERSON,
            [Purpose.PERSONALISATION],
            age_band=AgeBand.FROM_35,
            jurisdiction="IE",
            notice=notice.hash,
        )


def in_child(folder: str, times: int, began: float) -> None:
    """Measure in this process, which does nothing else, and print the figures as JSON."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from privemo.recognizer import Recognizer
    from privemo_consent import ConsentRegistry

    place = Path(folder)
    keys = [(place / "key").read_text()]
    with ConsentRegistry.open(place / "consent.sqlite", mode="simulation") as registry:

        def load(form: str) -> Recognizer:
            return Recognizer.load(
                place / f"{form}.onnx",
                keys=keys,
                registry=registry,
                jurisdiction="IE",
                mode="simulation",
                challenge_age=18.0,  # drawn faces look younger than they are drawn
            )

        recognizer = load("int8")
        found = {"start_s": time.time() - began, "start_cpu_s": time.process_time()}
        found |= _road(recognizer, np.load(place / "frames.npy"), times)
        found["memory_mb"] = _most_memory()
        face = np.random.default_rng(0).integers(0, 256, (48, 48)).astype(np.uint8)
        for form, reader in (("fp32", load("fp32")), ("int8", recognizer)):
            took, _ = _timed(partial(reader._classifier.probabilities, face), 5 * times)
            found[f"classify_{form}_ms_p50"] = float(np.median(took))
    found["classify_ms_p50"] = min(found[f"classify_{form}_ms_p50"] for form in ("fp32", "int8"))
    print(json.dumps({name: found[name] for name in _UNITS}))  # noqa: T201


def _road(recognizer: Any, frames: NDArray[np.uint8], times: int) -> dict[str, float]:
    """The whole road of frames that are read."""
    outcomes: list[str] = []

    def once() -> None:
        frame = frames[len(outcomes) % len(frames)]
        with recognizer.session(_PERSON, age_band="35_44") as session:
            outcomes.append(recognizer.read(frame, session).outcome)

    for _ in range(len(frames)):
        once()
    outcomes.clear()
    clock, cpu = _timed(once, times)
    return {
        "road_ms_p50": float(np.median(clock)),
        "road_ms_p95": float(np.percentile(clock, 95)),
        "road_cpu_ms_p50": float(np.median(cpu)),
        "read_share": sum(o == "read" for o in outcomes) / len(outcomes),
    }


def _most_memory() -> float:
    """Most that this process ever held, in MB; `ru_maxrss` would count who started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _timed(
    act: Callable[[], object], times: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Milliseconds of the clock and of the processor."""
    clock, cpu = [], []
    for _ in range(times):
        began, busy = time.perf_counter(), time.process_time()
        act()
        clock.append(time.perf_counter() - began)
        cpu.append(time.process_time() - busy)
    return np.array(clock) * 1e3, np.array(cpu) * 1e3
