"""The checks: each a title, a verdict, its evidence in numbers, and the clause it serves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from .closing import End
from .report import Check, Lineage, Violation
from .report_exclusions import Exclusions
from .report_more import Looks
from .report_performance import Performance
from .report_privacy import Attacked, Attempts, HeldOutPrivacy, Privacy
from .runfiles import Run
from .summary import plain_number

LEDGER_KINDS = ("ledger_chain",)
CLAIM_KINDS = ("epsilon_underclaimed",)
COVER_KINDS = ("update_without_ledger_entry", "ledger_entry", "noise_not_whole")
SET_KINDS = ("undeclared_store_set", "too_many_stores")
MINOR_REASONS = ("minor", "suspected_minor", "unknown_age", "below_consent_age")


def make_checks(
    run: Run,
    exclusions: Exclusions,
    performance: Performance,
    privacy: Privacy,
    lineage: Lineage,
    violations: Sequence[Violation],
) -> list[Check]:
    """Judge the run. A required check that fails, fails the audit."""
    return [
        *_consent_checks(lineage, violations),
        _minors(exclusions, violations),
        *_privacy_checks(run, privacy, violations),
        *_model_checks(run, performance, violations),
    ]


def _named(violations: Iterable[Violation], kinds: Sequence[str]) -> list[Violation]:
    return [v for v in violations if v.kind in kinds]


def _first(found: Sequence[Violation]) -> str:
    """Name the first of some violations."""
    v = found[0]
    where = v.store + (f", round {v.round}" if v.round is not None else "")
    who = f", person {v.person}" if v.person else ""
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{where}{who}: {v.detail}{more}"


def _judge(name: str, title: str, clause: str, found: Sequence[Violation], fine: str) -> Check:
    return Check(
        id=name,
        title=title,
        passed=not found,
        required=True,
        evidence=_first(found) if found else fine,
        clause=clause,
    )


def _consent_checks(lineage: Lineage, violations: Sequence[Violation]) -> list[Check]:
    uses_kinds = (
        "no_record",
        "wrong_purpose",
        "no_live_consent",
        "expired",
        "staff",
        "unknown_log_state",
        "foreign_use",
        "read_without_gate",
    )
    logs = lineage.consent_logs
    faults = {store: facts["fault"] for store, facts in logs.items() if facts["fault"]}
    return [
        _judge(
            "lineage.no_violation",
            "Every face that was used had live consent at that moment",
            "GDPR 7(1); EU AI Act 10(2)",
            _named(violations, uses_kinds),
            f"{lineage.uses:,} uses of {lineage.persons:,} people and "
            f"{lineage.predictions_checked:,} people read for the audit, each looked up in the "
            "consent log of its moment",
        ),
        Check(
            id="lineage.withdrawals_honoured",
            title="Withdrawals acted before the next batch",
            passed=not lineage.batches_after_withdrawal
            and not _named(violations, ("used_after_withdrawal",)),
            required=True,
            evidence=f"{lineage.withdrawals_honoured} of {lineage.withdrawals} withdrawals acted at "
            f"once; {lineage.batches_after_withdrawal} batches used someone afterwards",
            clause="GDPR 7(3)",
        ),
        _judge(
            "lineage.uses_recorded",
            "Every round that trained recorded whom it used",
            "GDPR 7(1); EU AI Act 12",
            _named(violations, ("uses_not_recorded",)),
            "every trained round of every store has its uses",
        ),
        Check(
            id="consent_log.verifies",
            title="The consent logs are whole: nothing was changed or removed",
            passed=not faults and not _named(violations, ("log_root",)),
            required=True,
            evidence=(
                "; ".join(f"{store}: {fault}" for store, fault in sorted(faults.items()))
                or (_first(logged) if (logged := _named(violations, ("log_root",))) else "")
                or f"{sum(f['entries'] for f in logs.values()):,} entries in {len(logs)} logs verified, "
                "every one under a signed head of its log"
            ),
            clause="GDPR 7(1); RFC 9162; C2SP tlog-checkpoint",
        ),
        *_upkeep_checks(lineage, violations),
    ]


def _upkeep_checks(lineage: Lineage, violations: Sequence[Violation]) -> list[Check]:
    logs = lineage.consent_logs.values()
    return [
        _judge(
            "consent.nothing_overdue",
            "Nothing is kept that was due to be destroyed",
            "GDPR 5(1)(e); BIPA 15(a); COPPA 312.10",
            _named(violations, ("overdue",)),
            "nothing was overdue when the run ended",
        ),
        _judge(
            "consent.erasures_complete",
            "Whoever asked to be erased is erased",
            "GDPR 17",
            _named(violations, ("erasure_incomplete",)),
            f"{sum(f['erasures'] for f in logs):,} people erased, and none of their keys is left",
        ),
        _judge(
            "consent.told_before_reading",
            "People were told before expressions were read",
            "EU AI Act 50(3)",
            _named(violations, ("read_before_told",)),
            "no reading for personalisation came before the notice of it",
        ),
    ]


def _minors(exclusions: Exclusions, violations: Sequence[Violation]) -> Check:
    """A minor has no record, so a use of one shows as a use without a record."""
    unknown = _named(violations, ("no_record",))
    refused = exclusions.minors
    return _judge(
        "minors.none_trained",
        "No minor, and nobody of unknown age, was used",
        "EU AI Act 9(9); UK AADC 3, 7, 9, 12",
        unknown,
        f"{refused.attested} people refused as minors by their own answer, {refused.suspected} for "
        f"looking younger than the challenge age, {refused.unknown_age} of unknown age; "
        "only adults have a consent record, and everyone used has one",
    )


def _privacy_checks(run: Run, privacy: Privacy, violations: Sequence[Violation]) -> list[Check]:
    chain = _judge(
        "ledger.chain",
        "The privacy ledgers are whole",
        "GDPR 5(2)",
        _named(violations, LEDGER_KINDS),
        f"{privacy.ledger_chain.entries} entries, each linked to the one before",
    )
    if not privacy.private:
        return [chain]
    sets = _named(violations, SET_KINDS)
    return [
        _within_budget(privacy),
        _judge(
            "privacy.recomputed_agrees",
            "The privacy claimed is confirmed by a second, independent accountant",
            "GDPR 35(7)",
            _named(violations, CLAIM_KINDS),
            _agreement(privacy) + _of_shared_noise(run),
        ),
        _judge(
            "ledger.covers_updates",
            "Every update that left a store was accounted first",
            "GDPR 5(2)",
            _named(violations, COVER_KINDS),
            f"{_trained(run)} updates arrived, each with its ledger entry" + _shared(run),
        ),
        _judge(
            "privacy.store_sets",
            "Whoever was used in several stores is accounted in all of them",
            "GDPR 35(7)",
            sets,
            f"{len(privacy.store_sets)} sets of stores accounted",
        ),
        chain,
        *([] if privacy.held_out is None else [_held_out(privacy.held_out)]),
        _noise(privacy),
        *([] if privacy.attempts is None else attempts_checks(privacy.attempts)),
        *([] if privacy.attacked is None else _attacked(privacy.attacked)),
    ]


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


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _signed(run: Run) -> int:
    return sum(did.statement is not None for r in run.rounds for did in r.stores.values())


def _agreement(privacy: Privacy) -> str:
    claimed, recomputed = privacy.accountants, privacy.recomputed
    return (
        f"claimed {_number(claimed['rdp'])} (RDP) and {_number(claimed['prv'])} (PRV); recomputed "
        f"{_number(recomputed['rdp_quadrature'])} (RDP), {_number(recomputed['pld'])} (PLD, "
        "dp-accounting)"
    )


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.3f}"


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


def attempts_checks(attempts: Attempts) -> list[Check]:
    """Attacks may be made again; none may be made undone."""
    lost = len(attempts.unfinished)
    return [
        Check(
            id="privacy.attacks_whole",
            title="No attack that was made was changed or taken out",
            passed=not attempts.faults,
            required=True,
            evidence="; ".join(attempts.faults)
            or f"{_counted(attempts.begun, 'attack')}, written down before and after, and chained",
            clause="GDPR 5(2)",
        ),
        _attacks_signed(attempts),
        Check(
            id="privacy.attacks_finished",
            title="Every attack that was begun was finished",
            passed=not lost,
            required=False,
            evidence=f"{attempts.begun - lost} of {_counted(attempts.begun, 'attack')} finished"
            + (
                ": what the others would have found nobody knows. They make none of these less sure"
                if lost
                else ""
            ),
            clause="GDPR 32(1)(d)",
        ),
    ]


def _attacks_signed(attempts: Attempts) -> Check:
    """Whoever writes the history anew has to have a key, and not the folder alone."""
    entries = attempts.entries or 0
    known = [head for head in attempts.signed if head.known]
    signed = max((head.entries for head in known), default=0)
    by = ", ".join(f"{h.by} (to entry {h.entries})" for h in known)
    told = f"of {_counted(entries, 'entry').replace('entrys', 'entries')} all are signed: {by}"
    if not entries:
        told = "there is no history that could be signed"
    elif signed < entries:
        told = f"nobody who is known signed the last {entries - signed} of {entries} entries"
        told += f"; signed: {by}" if by else ""
    if strangers := [h.by for h in attempts.signed if not h.known]:
        told += f"; {', '.join(strangers)} signed too, and nobody named that key (--key)"
    if attempts.earlier is not None:
        told += f"; all that the report with SHA-256 {attempts.earlier[:16]}... knew of are there"
    return Check(
        id="privacy.attacks_signed",
        title="Somebody who is known signed how far the history of attacks goes",
        passed=0 < entries == signed,
        required=False,
        evidence=told,
        clause="GDPR 5(2)",
    )


def _held_out(held_out: HeldOutPrivacy) -> Check:
    """People who were measured, and counted with noise: an account of their own."""
    spent, budget = held_out.epsilon_max_person, held_out.epsilon_budget
    told = "; ".join(
        f"{s.store}: {_counted(s.releases, 'release')}, claimed {s.epsilon_rdp:.3f} (RDP), recomputed "
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


def _attacked(attacked: Attacked) -> list[Check]:
    """A bound from below over the bound from above: something is not as it was accounted."""
    drawn = [
        f"of {d.of:,} who were to be drawn at {d.rate_claimed:g} {d.drawn:,} were"
        for d in attacked.in_draws
    ]
    if (noise := attacked.in_noise) is not None and noise.first and noise.second:
        drawn.append(
            f"of {noise.pairs:,} pairs of steps the two most alike ("
            + " and ".join(
                "step {1} of rehearsal {0}".format(*at) for at in (noise.first, noise.second)
            )
            + f") are {noise.alike:.2f} alike"
            + (": noise came back" if noise.reused else ", as chance makes them")
        )
    felt = max(s.separation_at_least / s.separation_claimed for s in attacked.in_steps)
    return [
        Check(
            id="privacy.attack_within_claim",
            title="No attack found out more than epsilon allows",
            passed=attacked.within,
            required=True,
            # Of all attacks the strongest, and one that found too much before all others.
            evidence=f"attacks prove an epsilon of {attacked.epsilon_at_least:.3f} or more, where the "
            f"mechanism that was attacked is calculated to give away {attacked.epsilon_claimed:.3f} (PLD); "
            + "; ".join(drawn),
            clause="GDPR 25(1), 32",
        ),
        Check(
            id="privacy.attack_conclusive",
            title="The attack was sharp enough to find something",
            passed=attacked.conclusive,
            required=False,
            evidence=f"it felt {felt:.0%} or more of the difference that a person is claimed to make"
            + ("" if attacked.conclusive else ": an attack as blind as this proves nothing"),
            clause="GDPR 32(1)(d)",
        ),
    ]


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


def _model_checks(
    run: Run, performance: Performance, violations: Sequence[Violation]
) -> list[Check]:
    low, high = performance.accuracy_ci
    chain_fault = _model_fault(run)
    return [
        _judge(
            "data.held_out",
            "Nobody who was trained on was used to measure the model",
            "EU AI Act 15(3)",
            _named(violations, ("measured_on_training",)),
            f"{performance.persons:,} held-out people, none of them trained on",
        ),
        Check(
            id="model.provenance",
            title="The model is the one that the rounds made",
            passed=chain_fault is None,
            required=True,
            evidence=chain_fault
            or f"{_counted(len(run.rounds), 'round')}, each starting from the model before",
            clause="EU AI Act 12, 15(5)",
        ),
        _judge(
            "manifests.verify",
            "Each store signed what it did, and the rounds are chained",
            "EU AI Act 12, 19",
            _named(violations, ("manifest_chain", "statement")),
            f"{_counted(len(run.rounds), 'manifest')}, each naming what stood before; "
            f"{_counted(_signed(run), 'statement')}, each signed with its store's key and borne out by the "
            "store's ledger and admissions",
        ),
        Check(
            id="run.complete",
            title="All planned rounds were run",
            passed=len(run.rounds) >= run.info.rounds,
            required=False,
            evidence=f"{len(run.rounds)} of {run.info.rounds} rounds found",
            clause="EU AI Act 12",
        ),
        Check(
            id="accuracy.above_chance",
            title="The model does better than guessing",
            passed=performance.above_chance,
            required=False,
            evidence=f"accuracy {performance.accuracy:.1%} ({low:.1%} to {high:.1%}); always "
            f"answering the commonest emotion would reach {performance.chance:.1%}",
            clause="EU AI Act 15(3)",
        ),
    ]


def end_checks(end: End) -> list[Check]:
    """Whether the stores signed the finished model; nothing of a run that is not whole, or never asks."""
    if not end.asked:
        return []
    return [
        Check(
            id="manifests.end_signed",
            title="The stores that took part signed the last round, and with it the model",
            passed=not end.missing,
            required=False,
            evidence=f"{_counted(len(end.signed), 'store')} signed the end of the run"
            + (f"; not {', '.join(end.missing[:5])}" if end.missing else "")
            + (f" and {len(end.missing) - 5} more" if len(end.missing) > 5 else ""),
            clause="EU AI Act 12, 15(5)",
        )
    ]


def looks_checks(looks: Looks | None) -> list[Check]:
    """Whether what was looked into is the run's model; nothing where nobody looked."""
    if looks is None:
        return []
    return [
        Check(
            id="looks.of_this_model",
            title="Where the model looks was asked of this run's model",
            passed=looks.of_this_model,
            required=True,
            evidence=f"looks.json is of the model with SHA-256 {looks.model_sha256[:16]}..., "
            + (
                "which is model.safetensors"
                if looks.of_this_model
                else "which model.safetensors is not; look into this one with `privemo explain`"
            ),
            clause="EU AI Act 13(3)(b)",
        )
    ]


def _model_fault(run: Run) -> str | None:
    """Each round starts from the model before it, and the last one is the file."""
    for before, after in zip(run.rounds, run.rounds[1:], strict=False):
        if before.model_out != after.model_in:
            return (
                f"round {after.round} did not start from the model that round {before.round} made"
            )
    if not run.rounds:
        return "no round was finished"
    have = run.files.get("model.safetensors")
    if have is None:
        return "model.safetensors is missing"
    last = run.rounds[-1]
    # A run that averages its rounds' models publishes the average, which the last round names.
    if have != (last.model_average or last.model_out):
        return f"model.safetensors is not the model that round {last.round} made"
    return None


def count_kinds(violations: Iterable[Violation]) -> dict[str, int]:
    """Violations by kind."""
    return dict(sorted(Counter(v.kind for v in violations).items()))
