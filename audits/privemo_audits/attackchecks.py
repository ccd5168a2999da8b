"""Checks of attacks: what they prove against what was claimed, and that none of them was made undone."""

from __future__ import annotations

from .checks import counted
from .report import Check
from .report_privacy import Attacked, Attempts

__all__ = ["attacked_checks", "attempts_checks"]


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
            or f"{counted(attempts.begun, 'attack')}, written down before and after, and chained",
            clause="GDPR 5(2)",
        ),
        _attacks_signed(attempts),
        Check(
            id="privacy.attacks_finished",
            title="Every attack that was begun was finished",
            passed=not lost,
            required=False,
            evidence=f"{attempts.begun - lost} of {counted(attempts.begun, 'attack')} finished"
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
    told = f"of {counted(entries, 'entry').replace('entrys', 'entries')} all are signed: {by}"
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


def attacked_checks(attacked: Attacked) -> list[Check]:
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
