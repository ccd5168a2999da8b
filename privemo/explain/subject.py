"""The model that is asked: that of a run, or the weights that ship."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from torch import nn

from privemo import weights as w
from privemo.errors import RunError, SettingsError
from privemo.runs import Run

__all__ = ["SHIPPED", "Subject", "subject_of"]

SHIPPED = "nobody"
"""Stands for the weights that ship with privemo, where a run folder could be named."""


@dataclass(frozen=True)
class Subject:
    """The model that is asked.

    Attributes:
        model: of `privemo.models`.
        architecture: its name.
        channels: of the pictures it is given, 1 for gray, 3 for RGB.
        words: what it is, for a reader.
        run_id: of the run it comes from; empty for the weights that ship.
        model_sha256: of its file.
    """

    model: nn.Module
    architecture: str
    channels: int
    words: str
    run_id: str
    model_sha256: str


def subject_of(run: Run | str) -> Subject:
    """The finished model of a run, or `SHIPPED`: the weights that ship.

    Raises:
        SettingsError: each store of the run has layers of its own.
        RunError: the run has no finished model, or it does not fit.
    """
    if isinstance(run, str):
        if run != SHIPPED:
            raise RunError(f"{run!r} is neither a run nor {SHIPPED!r}, the weights that ship.")
        weights, _ = w.initial_weights(SHIPPED, model="emotion-cnn", channels=1, seed=0)
        name, sha256, run_id = "emotion-cnn", w.sha256(weights), ""
        words, channels = "the model that ships", 1
    else:
        if run.settings.personal != "none":
            raise SettingsError(
                "Each store of this run has layers of its own, so there is no one model to look into."
            )
        try:
            sha256 = hashlib.sha256(run.model_path.read_bytes()).hexdigest()
        except OSError as error:
            raise RunError(
                f"{run.model_path} cannot be read ({error.strerror}): finish the run, or resume it with "
                f"{run.resume_command}."
            ) from error
        weights, name, run_id = w.load_weights(run.model_path), run.settings.model, run.run_id
        words, channels = f"the model of run {run_id[:8]}", int(run.facts["model"]["channels"])
    return Subject(w.model_for(name, weights), name, channels, words, run_id, sha256)
