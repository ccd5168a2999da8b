"""Checks of privacy: its ledgers, what was spent by two accountants against the budget, and the noise."""

from __future__ import annotations

from collections.abc import Sequence

from .attackchecks import attacked_checks, attempts_checks
from .checks import counted, judge, of_kinds
from .report import Check, Violation
from .report_privacy import HeldOutPrivacy, Privacy
from .runfiles import Run
from .words import plain_number

__all__ = ["privacy_checks"]


def privacy_checks(run: Run, privacy: Privacy, violations: Sequence[Violation]) -> list[Check]:
    """Whether privacy was spent as it was claimed; of a run without privacy its ledgers alone."""
    chain = judge(
        "ledger.chain",
        "The privacy ledgers are whole",
        "GDPR 5(2)",
        of_kinds(violations, ("ledger_chain",)),
        f"{privacy.ledger_chain.entries} entries, each linked to the one before",
    )
    if not privacy.private:
        return [chain]
    return [
        _within_budget(privacy),
        judge(
            "privacy.recomputed_agrees",
            "The privacy claimed is confirmed by a second, independent accountant",
            "GDPR 35(7)",
            of_kinds(violations, ("epsilon_underclaimed",)),
            _agreement(privacy) + _of_shared_noise(run),
        ),
        judge(
            "ledger.covers_updates",
            "Every update that left a store was accounted first",
            "GDPR 5(2)",
            of_kinds(
                violations, ("update_without_ledger_entry", "ledger_entry", "noise_not_whole")
            ),
            f"{_trained(run)} updates arrived, each with its ledger entry" + _shared(run),
        ),
        judge(
            "privacy.store_sets",
            "Whoever was used in several stores is accounted in all of them",
            "GDPR 35(7)",
            of_kinds(violations, ("undeclared_store_set", "too_many_stores")),
            f"{len(privacy.store_sets)} sets of stores accounted",
        ),
        chain,
        *([] if privacy.held_out is None else [_held_out(privacy.held_out)]),
        _noise(privacy),
        *([] if privacy.attempts is None else attempts_checks(privacy.attempts)),
        *([] if privacy.attacked is None else attacked_checks(privacy.attacked)),
    ]


def _within_budget(privacy: Privacy) -> Check:
    spent, budget = privacy.epsilon_max_person, privacy.epsilon_budget
    passed = spent is not None and budget is not None and spent <= budget
    says = "unbounded" if spent is None else f"{spent:.4f}"
    limit = "no budget is stated" if budget is None else f"the budget is {budget:g}"
    return Check(
        id="privacy.within_budget",
        title="Nobody's privacy budget was exceeded",
        passed=passed,
        required=True,
        evidence=f"epsilon of the person most exposed is {says} at delta "
        f"{plain_number(privacy.delta)}; {limit}",
        clause="GDPR 35(7)",
    )


def _agreement(privacy: Privacy) -> str:
    claimed, recomputed = privacy.accountants, privacy.recomputed
    return (
        f"claimed {_number(claimed['rdp'])} (RDP) and {_number(claimed['prv'])} (PRV); recomputed "
        f"{_number(recomputed['rdp_quadrature'])} (RDP), {_number(recomputed['pld'])} (PLD, "
        "dp-accounting)"
    )


def _of_shared_noise(run: Run) -> str:
    """The columns are called PRV and PLD; of sums of discrete noise neither is proved."""
    if all(item.secure_sum is None for item in run.rounds):
        return ""
    return "; of shared noise each of these is RDP at whole orders, for no more is proved of it"


def _shared(run: Run) -> str:
    """What an epsilon of shared noise rests on: the protocol, which no file can prove."""
    sums = [len(r.secure_sum.summed) for r in run.rounds if r.secure_sum is not None]
    if not sums:
        return ""
    return (
        f"; the noise is shared: {len(sums)} rounds are secure sums of {min(sums)} stores or more, of whose "
        "parts the server is taken to have learned nothing"
    )


def _trained(run: Run) -> int:
    return sum(did.status == "trained" for r in run.rounds for did in r.stores.values())


def _held_out(held_out: HeldOutPrivacy) -> Check:
    """People who were measured, and counted with noise: an account of their own."""
    spent, budget = held_out.epsilon_max_person, held_out.epsilon_budget
    told = "; ".join(
        f"{s.store}: {counted(s.releases, 'release')}, claimed {s.epsilon_rdp:.3f} (RDP), recomputed "
        f"{_number(s.recomputed_rdp)} (RDP), {_number(s.recomputed_pld)} (dp-accounting)"
        for s in held_out.stores
    )
    says = "unbounded" if spent is None else f"{spent:.4f}"
    limit = "no budget is stated" if budget is None else f"the budget is {budget:g}"
    return Check(
        id="privacy.held_out_within_budget",
        title="What was released about those measured cost none of them more than the budget",
        passed=spent is not None and budget is not None and spent <= budget,
        required=True,
        evidence=f"epsilon of the person most exposed by it is {says} at delta "
        f"{plain_number(held_out.delta)}; {limit}. They were not trained on. {told}",
        clause="GDPR 35(7)",
    )


def _noise(privacy: Privacy) -> Check:
    """Noise that can be drawn again from a seed can be subtracted again."""
    source = privacy.noise_source or "not stated"
    fine = source == "os_entropy"
    return Check(
        id="privacy.noise_unpredictable",
        title="The noise cannot be reproduced",
        passed=fine,
        required=False,
        evidence=(
            "noise drawn from the operating system's entropy"
            if fine
            else f"noise source: {source}. Whoever knows the seed can take the noise off again: "
            "this model must not be released"
        ),
        clause="GDPR 32",
    )


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.3f}"
