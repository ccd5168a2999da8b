"""How old a face looks: an estimate that can only refuse.

The network is `dnn_age_predictor_v1` of Cydral Technology in dlib-models (CC0 1.0): probabilities of 81 ages
from a face of 64x64, whose mean is the estimate. It errs by years; so the gate refuses whoever looks younger
than the challenge age, which is well above 18 (`privemo_consent.CHALLENGE_AGE`). The estimate is neither kept
nor told to anybody but the gate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from privemo.recognizer.faces import AGE_POINTS, Face, cut_out
from privemo.recognizer.runtime import bundled_network

__all__ = ["AgeEstimator"]

SIDE = 64
MEANS = np.array([122.781998, 117.000999, 104.297997], dtype=np.float32)
"""Of red, green and blue: what the network was trained with, as its publisher's manifest tells."""

AGES = np.concatenate([[0.25], np.arange(1, 81)])
"""Years that its 81 outputs stand for."""


class AgeEstimator:
    """Estimates ages.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
    """

    def __init__(self) -> None:
        self._session = bundled_network("age_cc0.onnx")
        self._input = self._session.get_inputs()[0].name

    def years(self, picture: NDArray[np.uint8], face: Face) -> float:
        """How old a face looks.

        Args:
            picture: uint8, (height, width, 3) RGB.
            face: in it, as `FaceFinder.find` gives it.
        """
        chip = cut_out(picture, face, AGE_POINTS, SIDE)
        x = (chip.astype(np.float32) - MEANS) / np.float32(256)
        said = self._session.run(None, {self._input: x.transpose(2, 0, 1)[None]})[0]
        return float(said[0].astype(np.float64) @ AGES)
