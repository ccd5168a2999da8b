"""A finished run as one signed ONNX file that a store's app can trust.

The graph reads bytes and says probabilities: what `to_input` does to a face stands in it, weights are
standardised once, and the mirror image that an audit averages with is left out (it takes twice as long). It
is held against the trained network on people who do not exist, in 32 bits to 1e-4 of a probability and in
8 bits to half a point of accuracy, or nothing is written.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from privemo import weights as w
from privemo.dp.choice import Choice
from privemo.errors import ExportRefused, MissingExtra, SettingsError
from privemo.exporting.graph import Reads, graph, plain, quantized, said_by, said_by_torch
from privemo.exporting.heldout import fit_on_held_out
from privemo.exporting.packing import packed
from privemo.exporting.temperature import calibration_error, fit_on_nobody
from privemo.files import write_bytes
from privemo.labels import EMOTIONS
from privemo.recognizer.card import (
    Abstention,
    Agreement,
    Calibration,
    Form,
    ModelCard,
    PrivacyStatement,
    SelfCheck,
)
from privemo.recognizer.runtime import pattern
from privemo.runs import Run
from privemo.synthetic import SyntheticPeople, synthesize
from privemo_consent.keys import SigningKey

__all__ = ["Drawn", "export"]

CLOSE = 1e-4
"""Most that a probability in 32 bits may differ from torch's."""

POINTS = 0.005
"""Most that accuracy in 8 bits may differ from torch's, as a share: half a point."""

COVERAGE = 0.9
"""Share of faces that is read where nothing else is asked for."""

FEWEST = 300
"""People to measure on: one face of the two thirds that are held out is half a point."""

_VERSIONS = ("privemo", "torch", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Drawn:
    """People who do not exist, by what they are for; nobody is in two of them.

    Attributes:
        ranges: ranges of 8-bit numbers are taken from them, the threshold for saying nothing, and the
            temperature where no real person is asked.
        held_out: everything that the card states is measured on them.
    """

    ranges: SyntheticPeople
    held_out: SyntheticPeople

    @classmethod
    def of(cls, people: int, channels: int, *, seed: int = 20261129) -> Drawn:
        """Draw adults, a picture of each: a third for ranges, the others for measuring.

        Raises:
            SettingsError: fewer than 300.
        """
        if people < FEWEST:
            raise SettingsError(
                f"people is {people}: half a point of accuracy cannot be seen on fewer than {FEWEST}."
            )
        few = people // 3
        return cls(_adults(few, channels, seed), _adults(people - few, channels, seed + 1))


@lru_cache(maxsize=4)
def _adults(many: int, channels: int, seed: int) -> SyntheticPeople:
    """Drawn once where a run is exported in both forms; nobody writes into them."""
    return synthesize(many, 1, seed=seed, channels=channels, ages=(18.0, 90.0))


def export(
    run: Path | str,
    out: Path | str,
    *,
    key: SigningKey,
    form: Form = "int8",
    coverage: float = COVERAGE,
    people: int = 900,
    epsilon: float | None = None,
    budget: Path | None = None,
    budget_epsilon: float | None = None,
) -> ModelCard:
    """Write a finished run's model as a signed ONNX file, whole or not at all.

    The run is audited anew for the privacy statement; an audit that fails is stated, and does not keep the
    model from being exported.

    Args:
        run: the run folder.
        out: the file to write, replaced where it exists.
        key: of whoever answers for the model.
        form: weights in 32 bits, or in 8: a quarter of the size, and faster.
        coverage: share of faces, of people who do not exist, that is to be read; of the others the model is
            too unsure.
        people: how many people who do not exist are drawn to measure it.
        epsilon: what choosing the temperature may cost each held-out person who agreed to be measured; None
            asks people who do not exist, and costs nobody anything.
        budget: lasting account of the held-out people, charged too; the run's own by default.
        budget_epsilon: most that anybody in it may lose altogether; the run's epsilon by default.

    Raises:
        BudgetExhausted: the held-out people cannot give `epsilon`; nothing was charged.
        LedgerError: their ledger is damaged or cannot be written.
        ExportRefused: the exported model would not say what the trained one says, or each store has another.
        RunError: the run is not finished, or its files were changed, or stores signed another end of it.
        SettingsError: a coverage outside 0 to 1, another form, or too few people.
        MissingExtra: a library of the `export` extra is not installed.
        privemo_audits.AuditError: the run cannot be audited.
    """
    _check_asked(form, coverage, epsilon)
    _need_onnx()
    prepared = Run(run)
    _check_one_model(prepared)
    weights = prepared.finished()
    signed = prepared.closings()  # of another model, and nothing is exported
    network = w.model_for(prepared.settings.model, weights).eval()
    channels = int(prepared.facts["model"]["channels"])
    drawn = Drawn.of(people, channels)
    if epsilon is None:
        temperature = _fitted_on(drawn.ranges, network)
    else:
        temperature = fit_on_held_out(
            prepared,
            lambda faces: said_by_torch(Reads(network).eval(), faces),
            epsilon=epsilon,
            weights_sha256=w.sha256(weights),
            budget=budget,
            budget_epsilon=budget_epsilon,
        )
    body = graph(Reads(plain(network), temperature).eval(), channels)
    if form == "int8":
        body = quantized(body, drawn.ranges.images)
    agreement = _agreement(Reads(network, temperature).eval(), body, form, drawn)
    card = ModelCard(
        exported=datetime.now(UTC).replace(microsecond=0),
        form=form,
        channels=channels,
        label_names=EMOTIONS,
        weights_sha256=w.sha256(weights),
        stores_signed=len(signed),
        temperature=temperature,
        calibration=_calibration(network, temperature, drawn, epsilon),
        privacy=_privacy(prepared.folder),
        agreement=agreement,
        abstention=_abstention(body, drawn, coverage),
        check=_self_check(body, channels),
        versions={name: metadata.version(name) for name in _VERSIONS},
        **_of_the_run(prepared),
    )
    write_bytes(Path(out), packed(body, card, key))
    return card


def _check_asked(form: str, coverage: float, epsilon: float | None) -> None:
    """Let through what makes sense, before people are drawn.

    Raises:
        SettingsError: it does not.
    """
    if form not in ("fp32", "int8"):
        raise SettingsError(f"form is {form!r}: choose fp32 or int8.")
    if not 0 < coverage <= 1:
        raise SettingsError(f"coverage is {coverage}: a share of faces, above 0 and at most 1.")
    if epsilon is not None:
        Choice.of(epsilon)


def _check_one_model(run: Run) -> None:
    """Let a run through whose stores share one model.

    Raises:
        ExportRefused: each has another.
    """
    if run.settings.personal != "none":
        raise ExportRefused(
            "Each store of this run keeps layers of its own, so there is no one model to export. Nothing was "
            "written."
        )


def _of_the_run(run: Run) -> dict[str, Any]:
    """What the card says of the run itself."""
    return {
        "run_id": run.run_id,
        "architecture": run.settings.model,
        "trained_on": {**run.facts["data"], "stores": len(run.stores)},
        "start": run.facts["model"]["initial_origin"],
        "simulated_consents": bool(run.facts["simulated"]),
    }


def _self_check(body: bytes, channels: int) -> SelfCheck:
    """What the graph says of a known pattern, which an app asks it again."""
    said = said_by(body, pattern(channels))[0].astype(float).clip(0, 1)
    return SelfCheck(probabilities=tuple(said.tolist()), tolerance=0.05)


def _need_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime.quantization  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            f"Exporting needs {error.name}, which is not installed: pip install 'privemo[export]'"
        ) from error


def _agreement(reads: nn.Module, body: bytes, form: Form, drawn: Drawn) -> Agreement:
    """How near the graph is to the network.

    Raises:
        ExportRefused: not near enough.
    """
    people = drawn.held_out
    theirs, ours = said_by_torch(reads, people.images), said_by(body, people.images)
    difference = float(np.abs(theirs - ours).max())
    right = [float((said.argmax(1) == people.label).mean()) for said in (theirs, ours)]
    near = difference <= CLOSE if form == "fp32" else abs(right[0] - right[1]) <= POINTS + 1e-9
    if not (np.isfinite(ours).all() and near):
        raise ExportRefused(
            f"As {form} the model would say something else: probabilities differ by up to "
            f"{difference:.2g}, and {right[1]:.1%} instead of {right[0]:.1%} of {len(people):,} people who "
            "do not exist are named rightly. Nothing was written"
            + ("; try fp32." if form == "int8" else ".")
        )
    return Agreement(
        people=len(np.unique(people.identity)),
        faces=len(people.images),
        difference=difference,
        accuracy_torch=right[0],
        accuracy=right[1],
        calibrated_on=len(np.unique(drawn.ranges.identity)) if form == "int8" else 0,
    )


def _fitted_on(people: SyntheticPeople, network: nn.Module) -> float:
    said = said_by_torch(Reads(network).eval(), people.images)
    return fit_on_nobody(said, people.label.astype(np.int64), people.identity)


def _calibration(
    network: nn.Module, temperature: float, drawn: Drawn, epsilon: float | None
) -> Calibration:
    """What the temperature does, on people on whom it was not chosen."""
    people, label = drawn.held_out, drawn.held_out.label.astype(np.int64)
    before, after = (
        calibration_error(said_by_torch(Reads(network, by).eval(), people.images), label)
        for by in (1.0, temperature)
    )
    nobody = epsilon is None
    return Calibration(
        fitted_on="people who do not exist" if nobody else "held-out people",
        people=len(np.unique(drawn.ranges.identity)) if nobody else None,
        epsilon=None if epsilon is None else float(Choice.of(epsilon).epsilon),
        error_before=before,
        error_after=after,
        faces=len(label),
    )


def _abstention(body: bytes, drawn: Drawn, coverage: float) -> Abstention:
    """The threshold that leaves `coverage` of some people's faces to be read, and what it does to others'."""
    from privemo_audits.intervals import clopper_pearson

    sure = said_by(body, drawn.ranges.images).max(1)
    threshold = float(np.quantile(sure, 1 - coverage, method="lower"))
    said = said_by(body, drawn.held_out.images)
    read = said.max(1) >= threshold
    right = said.argmax(1) == drawn.held_out.label
    many, of = int(read.sum()), len(read)
    low, high = clopper_pearson(many, of)
    return Abstention(
        threshold=threshold,
        coverage=coverage,
        read=many / of,
        read_ci=(low, high),
        accuracy=float(right[read].mean()) if many else None,
        faces=of,
    )


def _privacy(run: Path) -> PrivacyStatement:
    """What an audit of the run says of its privacy."""
    from privemo_audits import build_report

    report = build_report(run)
    privacy = report.privacy
    return PrivacyStatement(
        private=privacy.private,
        epsilon=privacy.epsilon_max_person,
        delta=privacy.delta,
        neighbouring=privacy.neighbouring,
        audit=report.verdict,
        report_sha256=hashlib.sha256(report.to_json()).hexdigest(),
        failed_checks=report.failed_checks,
    )
