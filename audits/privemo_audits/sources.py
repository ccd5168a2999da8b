"""What each check rests on: which files, by number and hash, and where the report shows it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from .gallery import Plate
from .report import Report

__all__ = ["SECTIONS", "Source", "files_of", "numbered", "shown_at"]

LOGS = "stores/*/consent.sqlite"
POLICY = "the policy that was given"
_LEDGERS, _ADMISSIONS = "stores/*/ledger.jsonl", "stores/*/admissions.jsonl"
_ASKED = "stores/*/asked.json"
_PREDICTIONS, _ROUNDS = "stores/*/predictions.csv", "rounds/*"
_HELD_OUT = "stores/*/heldout-ledger.*"
_ATTACKS = "attack*"  # attacks.jsonl, its head, who signed it; attack.json of earlier versions

SECTIONS = {
    "h-excluded": "Who was left out",
    "h-shares": "What exclusion did to the training data",
    "h-works": "How well it works",
    "h-groups": "For whom it works",
    "h-privacy": "What privacy it cost",
    "h-attacked": "Claimed, recomputed, attacked",
    "h-lineage": "Was consent live when a face was used?",
    "h-evidence": "Evidence",
}

RESTS_ON: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "lineage.no_violation": ((_ROUNDS, _PREDICTIONS, LOGS), ("h-lineage",)),
    "lineage.withdrawals_honoured": ((LOGS,), ("h-lineage",)),
    "lineage.uses_recorded": ((_ROUNDS, LOGS), ("h-lineage",)),
    "consent_log.verifies": ((_ROUNDS, LOGS), ("h-evidence",)),
    "consent.nothing_overdue": ((LOGS,), ("h-lineage",)),
    "consent.erasures_complete": ((LOGS,), ("h-lineage",)),
    "consent.told_before_reading": ((LOGS,), ("h-lineage",)),
    "minors.none_trained": ((_ADMISSIONS, LOGS), ("excluded",)),
    "exclusions.shares_kept": ((_ASKED,), ("shares", "h-shares")),
    "privacy.within_budget": (("run.json", _LEDGERS), ("epsilon",)),
    "privacy.recomputed_agrees": (("run.json", _LEDGERS), ("epsilon",)),
    "ledger.covers_updates": ((_ROUNDS, _LEDGERS), ("h-privacy",)),
    "privacy.store_sets": (("run.json", LOGS), ("h-privacy",)),
    "ledger.chain": ((_LEDGERS,), ("h-privacy",)),
    "privacy.attacks_whole": ((_ATTACKS,), ("h-attacked",)),
    "privacy.attacks_signed": ((_ATTACKS, "run.json"), ("h-attacked",)),
    "privacy.attacks_finished": ((_ATTACKS,), ("h-attacked",)),
    "privacy.attack_within_claim": ((_ATTACKS, "run.json"), ("h-attacked",)),
    "privacy.attack_conclusive": ((_ATTACKS,), ("h-attacked",)),
    "privacy.held_out_within_budget": (("run.json", _HELD_OUT), ("h-privacy",)),
    "privacy.noise_unpredictable": (("run.json",), ("h-privacy",)),
    "data.held_out": ((_PREDICTIONS, LOGS), ("h-works",)),
    "model.provenance": ((_ROUNDS, "model.safetensors"), ("h-evidence",)),
    "manifests.verify": (
        ("run.json", _ROUNDS, "stores/*/statements.jsonl", _LEDGERS, _ADMISSIONS, _ASKED),
        ("h-evidence",),
    ),
    "manifests.end_signed": ((_ROUNDS,), ("h-evidence",)),
    "run.complete": (("run.json", _ROUNDS), ("h-evidence",)),
    "accuracy.above_chance": ((_PREDICTIONS,), ("confusion",)),
    "looks.of_this_model": (("looks.json", "model.safetensors"), ("looks",)),
    "policy.accuracy": ((POLICY, _PREDICTIONS), ("confusion", "tradeoff")),
    "policy.f1": ((POLICY, _PREDICTIONS), ("h-works",)),
    "policy.calibration": ((POLICY, _PREDICTIONS), ("reliability",)),
    "policy.group_gap": ((POLICY, _PREDICTIONS), ("groups",)),
    "policy.group_accuracy": ((POLICY, _PREDICTIONS), ("groups",)),
    "policy.epsilon": ((POLICY, "run.json", _LEDGERS), ("epsilon", "tradeoff")),
    "policy.delta": ((POLICY, "run.json"), ("h-privacy",)),
    "policy.exclusions": ((POLICY, _ADMISSIONS), ("excluded",)),
    "policy.exclusions_by_group": ((POLICY, _ASKED), ("h-shares",)),
    "policy.representation": ((POLICY, _PREDICTIONS), ("h-excluded",)),
    "policy.representation_trained": ((POLICY, _ASKED), ("h-shares",)),
}
"""By check: patterns of the files, and figures or sections of the engineers' page."""


class Source(NamedTuple):
    """One file that was read: its number, its name, and the hash that it is known by."""

    number: int
    name: str
    digest: str
    kind: str


def numbered(report: Report) -> tuple[Source, ...]:
    """Every file that the report was made from, the policy and others' reports too; logs by their roots."""
    found = [(name, digest, "SHA-256") for name, digest in report.evidence.files.items()]
    found += [
        (
            f"stores/{store}/consent.sqlite",
            str(log["root"]),
            f"log root, {log['entries']:,} entries",
        )
        for store, log in report.lineage.consent_logs.items()
    ]
    found += [(f"report.json of {b.run_id}, beside", b.sha256, "SHA-256") for b in report.beside]
    if report.policy is not None:
        found.append((POLICY, report.policy.sha256, "SHA-256"))
    return tuple(Source(number, *each) for number, each in enumerate(found, start=1))


def files_of(check: str, files: Sequence[Source]) -> str:
    """The numbers of the files that a check rests on: ``F1, F3 to F5``."""
    patterns, _ = RESTS_ON.get(check, ((), ()))
    numbers = [f.number for f in files if any(fnmatchcase(f.name, p) for p in patterns)]
    return ", ".join(_ranges(numbers)) or "none"


def _ranges(numbers: Iterable[int]) -> Iterable[str]:
    # Neighbours have the same distance to their place in the list.
    for _, run in itertools.groupby(enumerate(numbers), key=lambda each: each[1] - each[0]):
        members = [number for _, number in run]
        first, last = members[0], members[-1]
        if len(members) < 3:
            yield from (f"F{number}" for number in members)
        else:
            yield f"F{first} to F{last}"


def shown_at(check: str, plates: dict[str, Plate]) -> list[tuple[str, str]]:
    """Where the engineers' page shows what a check is about: anchors, and what they are called."""
    _, places = RESTS_ON.get(check, ((), ()))
    found = []
    for place in places:
        if place in SECTIONS:
            found.append((place, SECTIONS[place]))
        for key, plate in plates.items():
            if key == place or key.startswith(f"{place}:"):
                found.append((plate.id, f"Figure {plate.number}"))
    return found or [("h-checks", "What was checked")]
