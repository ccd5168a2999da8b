"""The part of a report that says what privacy was spent, and what attacks made of it."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from .frozen import Frozen, Interval


class LedgerRound(Frozen):
    """Epsilon of one store after one ledger entry: claimed, and recomputed by a second accountant."""

    seq: int
    round: int
    steps: int
    noise_multiplier: float
    sample_rate: float
    epsilon_rdp: float | None
    epsilon_prv: float | None
    recomputed_rdp: float | None
    arrived: bool = Field(description="False: spent, but the update never reached the server.")


class StorePrivacy(Frozen):
    """One store's whole privacy spend."""

    store: str
    epsilon_rdp: float | None
    epsilon_prv: float | None
    recomputed_rdp: float | None
    recomputed_pld: float | None
    rounds: tuple[LedgerRound, ...]


class LedgerChain(Frozen):
    """Whether every ledger's hash chain holds, and each break by store and entry."""

    intact: bool
    entries: int
    breaks: tuple[str, ...]


class StepAttack(Frozen):
    """Was a person in a step? Answers of an adversary who knows everybody else, and what follows.

    `separation` is how far apart steps with and without a person lie, in standard deviations of the noise;
    its inverse is the noise multiplier that the adversary felt. With 95% certainty it is at least
    `separation_at_least`, if noise is Gaussian.
    """

    adversary: str
    inside: int
    inside_called_in: int
    outside: int
    outside_called_in: int
    separation_claimed: float
    separation_at_least: float
    separation_at_most: float
    noise_at_most: float | None = Field(
        description="Noise multiplier; null where nothing was felt."
    )
    epsilon_at_least: float


class MembershipAttack(Frozen):
    """Did a person take part at all? Of `guesses` the adversary was right in `right`.

    `epsilon_at_least` holds with 95% certainty whatever the mechanism is. `auc` is the chance that somebody
    who took part scores higher than somebody who did not. `found` is the share of those who took part that
    lie above a threshold, and `false_alarms` that of the others; the threshold is what 1% of those who did
    not take part in other rehearsals lie above.
    """

    adversary: str
    persons: int
    guesses: int
    right: int
    epsilon_at_least: float
    auc: float
    found: float
    found_ci: Interval
    false_alarms: float


class DrawAttack(Frozen):
    """How often people were drawn for a step who were to be drawn at a rate."""

    rate_claimed: float
    of: int
    drawn: int
    rate_at_least: float


class FoundAt(Frozen):
    """Of those who took part, how many lie above all of the others but a `share` of them.

    Not `measurable` where that share is less than one of them: then none of them lies above.
    """

    share: float
    measurable: bool
    found: float
    found_ci: Interval
    false_alarms: int
    false_alarms_ci: Interval


class ModelAttack(Frozen):
    """The very model of the run, attacked with drawn people of whom it is known whether they took part."""

    took_part: int
    others: int
    reference: str
    auc: float
    found_at: tuple[FoundAt, ...]
    persons: int = Field(description="Whom guesses were made about: of each a fair coin decided.")
    guesses: int
    right: int
    epsilon_at_least: float


class NoiseReuse(Frozen):
    """The two steps whose noise is most alike, of all pairs of all rehearsals.

    `alike` is the cosine of what is left of them: 1 is the same noise, -1 its opposite, 0 nothing in
    common. `first` and `second` are numbers of the rehearsal and of its step. `p` is the chance that the
    most alike of so many pairs of new noise is as alike.
    """

    steps: int
    pairs: int
    alike: float | None
    first: tuple[int, int] | None
    second: tuple[int, int] | None
    p: float
    reused: bool


class Inversion(Frozen):
    """How much a picture made from an update is like the one that went in: correlation, 1 is the same."""

    pictures: int
    without_noise: float
    with_noise: float


class Attacked(Frozen):
    """A run's mechanism, rehearsed with people who do not exist and attacked.

    `epsilon_claimed` is of the mechanism as rehearsed, by PLD; `epsilon_at_least` the largest of all
    attacks. Above the claim, where people were drawn more often than at the rate, or where noise came back,
    something is not as accounted (`within`). An attack that felt less than half of what is claimed to be
    there is not `conclusive`.
    """

    made: datetime
    persons: int
    rehearsals: int
    noise_multiplier: float
    steps: int
    delta: float
    epsilon_claimed: float
    epsilon_at_least: float
    within: bool
    conclusive: bool
    in_steps: tuple[StepAttack, ...]
    in_runs: tuple[MembershipAttack, ...]
    in_draws: tuple[DrawAttack, ...]
    in_noise: NoiseReuse | None = Field(
        default=None, description="Null of an attack by a version that did not ask."
    )
    on_model: ModelAttack | None = Field(
        default=None,
        description="Null where the model itself was not attacked: its people may exist.",
    )
    inversion: Inversion


class Attempt(Frozen):
    """One attack of several. Its bound holds with `certainty`, so that all together hold with 95%."""

    number: int
    made: datetime
    certainty: float
    persons: int
    rehearsals: int
    epsilon_at_least: float
    within: bool


class SignedHead(Frozen):
    """Somebody signed the first `entries` of the history of attacks.

    `known` says whether whoever audits knows the key: a store's that `run.json` names, or one that was named.
    A head that is not known proves nothing, whether it `holds` or not.
    """

    by: str
    entries: int
    known: bool
    holds: bool


class Attempts(Frozen):
    """How many attacks were begun on a run, and what became of each; `faults` names what was taken out.

    `entries` and `head` say how far their history goes: a later audit can hold it against this report.
    """

    begun: int
    unfinished: tuple[int, ...]
    faults: tuple[str, ...]
    each: tuple[Attempt, ...]
    entries: int | None = Field(default=None, exclude_if=lambda entries: entries is None)
    head: str | None = Field(
        default=None,
        exclude_if=lambda head: head is None,
        description="Hash of the last entry, hex.",
    )
    signed: tuple[SignedHead, ...] = Field(default=(), exclude_if=lambda heads: not heads)
    earlier: str | None = Field(
        default=None,
        exclude_if=lambda digest: digest is None,
        description="SHA-256 of an earlier report of this run, whose attacks are all there still.",
    )


class HeldOutStore(Frozen):
    """What the people measured in one store lost by noised counts and choices."""

    store: str
    releases: int
    mechanisms: tuple[str, ...]
    epsilon_rdp: float
    recomputed_rdp: float | None
    recomputed_pld: float | None


class HeldOutPrivacy(Frozen):
    """What the people measured lost by noised counts and choices, apart from training: they are other people.

    `epsilon_max_person` is of the person most exposed, with what was spent on anybody before the run; null
    where nothing bounds it.
    """

    epsilon_max_person: float | None
    epsilon_budget: float | None
    delta: float
    stores: tuple[HeldOutStore, ...]


class Privacy(Frozen):
    """What privacy was spent (GDPR 35(7): unit, epsilon, delta, sampler, accountant, neighbours).

    `epsilon_max_person` holds for the person most exposed: the largest, over every set of stores
    any one person appears in, of the larger of claimed and recomputed epsilon by the accountant
    that the budget is written in. It is null when the run is not private, or when epsilon is
    unbounded (`unbounded`).
    """

    private: bool
    unbounded: bool
    epsilon_max_person: float | None
    epsilon_budget: float | None
    delta: float | None
    unit: str | None
    sampler: str | None
    neighbouring: str | None
    accountant: str | None
    noise_source: str | None
    max_grad_norm: float | None
    normaliser: float | None
    accountants: dict[str, float | None]
    recomputed: dict[str, float | None]
    most_exposed_stores: tuple[str, ...]
    store_sets: tuple[tuple[str, ...], ...]
    stores: tuple[StorePrivacy, ...]
    ledger_chain: LedgerChain
    released_not_arrived: tuple[str, ...]
    notes: tuple[str, ...]
    attacked: Attacked | None = Field(
        default=None,
        description="The strongest of all attacks; null where nobody ran `privemo attack`.",
    )
    attempts: Attempts | None = Field(
        default=None, description="All attacks; null where none was begun."
    )
    held_out: HeldOutPrivacy | None = Field(
        default=None,
        exclude_if=lambda block: block is None,
        description="Only there where noised counts of the people measured, or a choice by them, left.",
    )
