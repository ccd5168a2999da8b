"""A store reads its held-out people: those who agreed to a fairness audit, and what is written of them."""

from __future__ import annotations

import numpy as np

from privemo import heldout
from privemo import weights as w
from privemo.capture import Admission, demographics, faces_of
from privemo.errors import NoFacesAdmitted
from privemo.faces import Faces
from privemo.orders import ZOOM
from privemo.storefolder import StoreFolder
from privemo.training import predict
from privemo_consent import ItemKind, Purpose

__all__ = ["StoreHeldOut"]


class StoreHeldOut(StoreFolder):
    """The layer of a store that measures."""

    def write_predictions(
        self,
        weights: w.Weights,
        *,
        model: str,
        run_id: str,
        flip: bool = True,
        zoom: float = ZOOM,
    ) -> int:
        """Read the held-out faces of those who agreed to a fairness audit; returns how many.

        By the model as this store has it, with its own layers of this run (`privemo.personal`), if any.
        `flip` and `zoom` are those of `privemo.training.predict`. Of whom the model says no number it says
        nothing (`heldout.numbers_of`).

        Writes `predictions.csv` in the store's folder (AI Act 10(5): labels of groups have their own
        purpose and never leave with an update). Once `forget_demographics` was called, what was
        written before stays: it could not be written again.

        Raises:
            RunError: the file cannot be written, or the store's own layers are damaged.
        """
        path = self.folder / "predictions.csv"
        if self._demographics_are_gone() and path.exists():
            return heldout.count_rows(path)
        faces, columns = self._held_out(run_id)
        theirs = self.personal.onto(weights, model=model, run_id=run_id)
        network = w.model_for(model, theirs)
        probabilities = heldout.numbers_of(predict(network, faces.images, flip=flip, zoom=zoom))
        heldout.write_table(path, self.config.name, faces, columns, probabilities)
        # Whoever was erased since the gate let them through was looked for in the file of before.
        return len(faces) - self.forget_erased()

    def held_out_faces(self, run_id: str) -> Faces:
        """Held-out faces of whoever may be measured now, without anything sensitive; the use is logged.

        Raises:
            RunError: the decision cannot be written down.
        """
        try:
            admitted = self._admit("test", run_id, 0)
        except NoFacesAdmitted:
            return faces_of([])
        self._use_held_out(admitted.faces, admitted, run_id)
        return admitted.faces

    def _held_out(self, run_id: str) -> tuple[Faces, heldout.Columns]:
        """Faces that may be measured, and their sensitive columns; the use is logged."""
        try:
            admitted = self._admit("test", run_id, 0)
        except NoFacesAdmitted:
            return heldout.joined(faces_of([]), {}, self.config.sensitive)
        found = {}
        if self.config.sensitive:
            found = demographics(self.vault, self.gate, self.context)
        faces, columns = heldout.joined(admitted.faces, found, self.config.sensitive)
        self._use_held_out(faces, admitted, run_id)
        return faces, columns

    def _use_held_out(self, faces: Faces, admitted: Admission, run_id: str) -> None:
        if len(faces):
            self.registry.record_use(
                np.unique(faces.person),
                Purpose.FAIRNESS_AUDIT,
                run=run_id,
                round=0,
                store=self.config.name,
                batch=0,
                log_seq=admitted.log_seq,
            )

    def forget_demographics(self) -> int:
        """Delete the sensitive columns from the vault; returns how many items (AI Act 10(5)).

        For after the audit has what it needs: `predictions.csv` is read by it and no more.
        """
        return self.vault.delete(kind=ItemKind.DEMOGRAPHIC)

    def _demographics_are_gone(self) -> bool:
        return bool(self.config.sensitive) and not self.vault.counts()[ItemKind.DEMOGRAPHIC]
