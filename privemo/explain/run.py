"""Where one model looks: attention by part, emotion and group; against area, chance and covering."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from privemo.errors import RunError
from privemo.explain import answer, figures
from privemo.explain.attribution import Attribution, Method, attribute
from privemo.explain.covering import alone, cover, elsewhere_as_large, grown
from privemo.explain.looks import versions, write_looks
from privemo.explain.over import change, mean_over_people, means_by_part, rate, told, written
from privemo.explain.parts import PARTS, draw_people, groups_of, part_of
from privemo.explain.subject import Subject, subject_of
from privemo.files import appearing, write_json
from privemo.labels import EMOTIONS
from privemo.machine import tuned
from privemo.models import build_model
from privemo.runs import Run
from privemo.synthetic import REGIONS, SyntheticPeople
from privemo.training import predict

__all__ = ["covered", "explain_run"]

COVERED = (("eyes",), ("mouth",), ("cheeks",), ("eyes", "mouth"))
EDGE = 1
"""Pixels by which a part is covered beyond its region: as far as the picture's own blur reaches."""

Listener = Callable[[str, int, int], None]


def explain_run(
    run: Run | str,
    out: Path,
    *,
    people: int = 40,
    seed: int = 611,
    method: Method = "integrated_gradients",
    listener: Listener = lambda what, done, of: None,
) -> dict[str, Any]:
    """Say where a model looks, on people who do not exist.

    Nobody's face is read, so there is nobody to ask. Of a run only settings and model are read; its stores
    and their vaults may be gone. The same seed gives the same numbers.

    Args:
        run: a run, or `"nobody"` for the weights that ship.
        out: a new folder for `answer.md`, `explain.json`, `shares.csv`, `shares.png` and `maps.png`. Into the
            folder of a run goes `looks.json`, for its audit.
        people: who are drawn; each shows every emotion once.
        seed: of the people, of the untrained model, and of the places that are covered for comparison.
        method: of attribution.
        listener: called with what is being done, steps done and steps in all.

    Returns:
        What stands in `explain.json`.

    Raises:
        SettingsError: too few people, a network that the method cannot read, or stores with layers of their
            own.
        RunError: the run has no model, or a file cannot be written.
        MissingExtra: `privemo[explain]` or `privemo[synth]` is not installed.
    """
    subject = subject_of(run)
    with appearing(out) as draft, tuned():
        drawn = draw_people(
            people,
            seed=seed,
            channels=subject.channels,
            listener=lambda done, of: listener("Drawing people who do not exist", done, of),
        )
        looked = _Looked.of(subject, drawn, method, seed, listener)
        found = looked.facts(seed)
        write_json(draft / "explain.json", found)
        (draft / "shares.csv").write_text(answer.table(found), encoding="utf-8")
        figures.shares(found, draft / "shares.png")
        figures.maps(drawn, looked.asked.signed, looked.untrained.signed, draft / "maps.png")
        (draft / "answer.md").write_text(answer.in_words(found), encoding="utf-8")
        if isinstance(run, Run):
            write_looks(
                run.folder,
                run_id=subject.run_id,
                model_sha256=subject.model_sha256,
                method=method,
                people=people,
                area=found["area"],
                by_emotion=found["by_emotion"],
                by_group=found["by_group"],
            )
    return found


@dataclass(frozen=True, eq=False)
class _Looked:
    """All that was measured of one model, by picture."""

    subject: Subject
    people: SyntheticPeople
    method: Method
    asked: Attribution
    untrained: Attribution
    covering: dict[str, Any]

    @classmethod
    def of(
        cls,
        subject: Subject,
        people: SyntheticPeople,
        method: Method,
        seed: int,
        listener: Listener,
    ) -> _Looked:
        def attributed(model: nn.Module, what: str, *, refine: bool) -> Attribution:
            return attribute(
                model,
                people.images,
                people.label,
                method=method,
                refine=refine,
                listener=lambda done, of: listener(what, done, of),
            )

        fresh = build_model(subject.architecture, channels=subject.channels, seed=seed)
        return cls(
            subject,
            people,
            method,
            attributed(subject.model, "Asking the model", refine=True),
            attributed(fresh, "Asking an untrained one", refine=False),
            covered(subject.model, people, seed, listener),
        )

    def facts(self, seed: int) -> dict[str, Any]:
        """What stands in `explain.json`."""
        return {
            "schema": "privemo.explain/1",
            "run_id": self.subject.run_id,
            "model": self.subject.words,
            "architecture": self.subject.architecture,
            "model_sha256": self.subject.model_sha256,
            "faces": "people who do not exist, drawn for this; nobody had to be asked",
            "people": len(np.unique(self.people.identity)),
            "pictures": len(self.people),
            "seed": seed,
            "method": self.method,
            "versions": versions(),
            **self._shares(),
            "completeness": self._completeness(),
            **self.covering,
        }

    def _shares(self) -> dict[str, Any]:
        """Shares of attention: of all, of an untrained model, by emotion, by group, and on ten regions."""
        people, person, regions = self.people, self.people.identity, _regions(self.people)
        part = part_of(regions)
        shares = self.asked.shares(part, len(PARTS))
        fresh = self.untrained.shares(part, len(PARTS))
        tens = self.asked.shares(regions, len(REGIONS))
        looked = ~np.isnan(shares).any(axis=1)
        both = looked & ~np.isnan(fresh).any(axis=1)
        if not both.any():
            raise RunError("The model's answers rest on no pixel at all: it was not trained.")
        emotions = {name: looked & (people.label == k) for k, name in enumerate(EMOTIONS)}
        more = {
            name: mean_over_people((shares - fresh)[both, k], person[both])
            for k, name in enumerate(PARTS)
        }
        return {
            "not_attributed": int((~looked).sum()),
            "regions": list(PARTS),
            "area": _area(part, PARTS),
            "overall": _told(shares, looked, person),
            "untrained": _told(fresh, both, person),
            "more_than_untrained": told(more),
            "by_emotion": {
                name: _told(shares, rows, person) for name, rows in emotions.items() if rows.any()
            },
            "by_group": {
                feature: {
                    str(value): _told(shares, looked & (column == value), person)
                    for value in np.unique(column[looked])
                }
                for feature, column in groups_of(people).items()
            },
            "ten_regions": {
                "area": _area(regions, REGIONS),
                "share": told(means_by_part(tens[looked], person[looked], REGIONS)),
            },
        }

    def _completeness(self) -> dict[str, float] | None:
        """How far sums of attributions are from the difference that they should add up to."""
        if self.asked.unexplained is None:
            return None
        missed = np.abs(self.asked.unexplained)
        return {
            "mean_margin": round(float(np.abs(self.asked.margin).mean()), 4),
            "median_unexplained": round(float(np.median(missed)), 4),
            "largest_unexplained": round(float(missed.max()), 4),
        }


def _regions(people: SyntheticPeople) -> NDArray[np.uint8]:
    if people.regions is None:
        raise RunError("These people were drawn without masks of their faces' regions.")
    return people.regions


def _area(part: NDArray[np.uint8], names: tuple[str, ...]) -> dict[str, float]:
    each = np.bincount(part.ravel(), minlength=len(names)) / part.size
    return {name: float(each[k]) for k, name in enumerate(names)}


def _told(
    shares: NDArray[np.float64], rows: NDArray[np.bool_] | np.bool_, person: NDArray[np.str_]
) -> dict[str, Any]:
    means = means_by_part(shares[rows], person[rows])
    return {"n": means["eyes"].n, "share": told(means)}


def covered(
    model: nn.Module, people: SyntheticPeople, seed: int, listener: Listener
) -> dict[str, Any]:
    """Accuracy with nothing covered, what covering each part loses, and what a part alone still gives.

    Each loss stands beside what covering the same shape elsewhere in the picture loses. `lost_on_top` is what
    eyes, or mouth, lose once the other is covered: where either is enough, covering one alone shows
    nothing. All are differences between answers to the same pictures.
    """
    part, person, rng = part_of(_regions(people)), people.identity, np.random.default_rng(seed)

    def right(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
        return np.asarray(predict(model, images, zoom=0).argmax(1) == people.label)

    seen, spare = right(people.images), grown(part < PARTS.index("elsewhere"), EDGE)
    rows: dict[str, Any] = {}
    after: dict[str, NDArray[np.bool_]] = {}
    for done, names in enumerate(COVERED):
        where = grown(np.isin(part, [PARTS.index(name) for name in names]), EDGE)
        hidden = after[" and ".join(names)] = right(cover(people.images, where))
        beside = right(cover(people.images, elsewhere_as_large(where, spare, rng)))
        rows[" and ".join(names)] = {
            "lost": written(change(seen, hidden, person)),
            "lost_elsewhere": written(change(seen, beside, person)),
            "lost_more_than_elsewhere": written(change(beside, hidden, person)),
            "lost_by_emotion": {
                name: written(change(seen[k], hidden[k], person[k]))
                for name, k in ((name, people.label == i) for i, name in enumerate(EMOTIONS))
                if k.any()
            },
            "alone": written(rate(right(alone(people.images, where)), person)),
        }
        listener("Covering parts of faces", done + 1, len(COVERED))
    both = after["eyes and mouth"]
    return {
        "accuracy": written(rate(seen, person)),
        "covered": rows,
        "lost_on_top": {
            "eyes": written(change(after["mouth"], both, person)),
            "mouth": written(change(after["eyes"], both, person)),
        },
    }
