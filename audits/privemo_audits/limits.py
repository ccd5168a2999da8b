"""What a report does not show, in plain words."""

from __future__ import annotations

from collections.abc import Iterator

from .found import Found
from .report import Lineage
from .report_more import Looks
from .report_privacy import Privacy
from .runfiles import Run

__all__ = ["make_limits"]

_ALWAYS = (
    (
        "Ages estimated from a face are estimates: adults are refused for looking young, and "
        "nobody can promise that no minor looks older than the challenge age. Only the "
        "records can be checked."
    ),
    (
        "Accuracy holds for faces like the held-out ones. It says how often the label was "
        "named, not what anybody felt."
    ),
    (
        "People who did not agree to the fairness audit are not measured; the model may work "
        "differently for them."
    ),
    (
        "Groups are as the data records them. People are compared by one feature and by two "
        "together; what only three together would show is not looked for."
    ),
    (
        "Withdrawal and erasure stop what is read and remove what is kept. What a model learned of "
        "somebody before stays in it; epsilon bounds it."
    ),
    (
        "Lineage holds the uses that stores recorded against their consent logs. A face used "
        "without being recorded would not show, except where a whole round has no record."
    ),
    (
        "People are told apart by pseudonym. A person who goes by different pseudonyms in "
        "two stores counts as two, and their privacy loss would add up."
    ),
)


def make_limits(run: Run, found: Found) -> list[str]:
    """Sentences: what holds of every report, and what the run left open."""
    return [
        *_of_simulation(run),
        *_ALWAYS,
        _of_attacks(found.privacy),
        _of_looks(found.looks),
        *_of_no_privacy(found.privacy),
        *_of_erased(found.lineage),
        *found.notes,
    ]


def _of_simulation(run: Run) -> Iterator[str]:
    if run.info.simulated:
        yield (
            "SIMULATED CONSENTS. Every consent in this run was written by a program. Nothing "
            "here is evidence that a real person agreed to anything."
        )


def _of_attacks(privacy: Privacy) -> str:
    if privacy.attempts is not None and privacy.attacked is None:
        return (
            "Epsilon is an upper bound from the mechanism as recorded; attacks were begun, but nothing "
            "of what they found is there, so no lower bound is stated."
        )
    if privacy.attacked is None:
        return (
            "Epsilon is an upper bound from the mechanism as recorded; no attack was made "
            "(`privemo attack`), so no lower bound is stated."
        )
    if privacy.attacked.on_model is not None:
        return (
            "Attacks were made on the mechanism, rehearsed with people who do not exist, and on the very "
            "model with the drawn people it was made of. They bound from below what such attacks find; a "
            "better one may find more. Bounds from single steps assume that noise is Gaussian."
        )
    return (
        "Attacks were made on the mechanism, rehearsed with people who do not exist, and not on the model of "
        "this run or on anybody in it. They bound from below what such attacks find; a better one may find "
        "more. Bounds from single steps assume that noise is Gaussian."
    )


def _of_looks(looks: Looks | None) -> str:
    if looks is None:
        return "Nobody asked where in a face the model looks (`privemo explain`), so that is not stated."
    return (
        "Where the model looks was measured on people who do not exist. It says which parts of a picture "
        "move its answer, and not why; another method may weigh them differently."
    )


def _of_no_privacy(privacy: Privacy) -> Iterator[str]:
    if not privacy.private:
        yield "There is no privacy guarantee: the run was not private."


def _of_erased(lineage: Lineage) -> Iterator[str]:
    logs = lineage.consent_logs.values()
    erased, uses = sum(f["erasures"] for f in logs), sum(f["erased_uses"] for f in logs)
    if erased:
        who = "1 person was" if erased == 1 else f"{erased:,} people were"
        yield f"{who} erased since; {uses:,} recorded uses are theirs, and cannot be looked up."
