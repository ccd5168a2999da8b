"""Consents of people who do not exist, or of photographs without any: marked ``simulated``.

The mix is what a shop would meet, so that every refusal of the gate has somebody to refuse. Whoever
is a minor by ``true_age_band`` says so and is turned away; of a minor the registry keeps a count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from .errors import MalformedError, ModeMismatchError
from .notices.simulated import simulated_notice
from .recording import Bulk
from .records import Notice
from .registry import ConsentRegistry
from .snapshot import as_names
from .terms import AgeBand, ConsentStatus, Purpose, Role

__all__ = ["ConsentMix", "SimulatedConsents", "simulate_consents", "simulated_notice"]

_ADULTS = tuple(band for band in AgeBand if band.is_adult)
_MINORS = tuple(band for band in AgeBand if band.is_minor)
#: Shares of adult shoppers by band, a European shopping street's in round numbers.
_ADULT_SHARES = (0.14, 0.22, 0.20, 0.17, 0.14, 0.13)
_TERM = timedelta(days=365)


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentMix:
    """Shares of people by what they do; the kinds below add up to 1.

    Attributes:
        granted: agree to TRAINING and keep to it.
        will_withdraw: agree to TRAINING and will withdraw while it runs.
        refused: say no to everything.
        withdrawn: agreed and took it back before the start.
        expired: agreed a year ago and more.
        other_purpose: agree to other purposes than TRAINING only.
        unknown_age: do not tell their age.
        staff: work or study there.
        no_record: never came to the kiosk.
        minor: attest an age under 18, where no true ages are given; taken off the others evenly.
        also_audit: of those who agree to TRAINING, the share who agree to FAIRNESS_AUDIT.
        also_personalisation: likewise for PERSONALISATION.

    """

    granted: float = 0.78
    will_withdraw: float = 0.02
    refused: float = 0.08
    withdrawn: float = 0.02
    expired: float = 0.02
    other_purpose: float = 0.04
    unknown_age: float = 0.01
    staff: float = 0.015
    no_record: float = 0.015
    minor: float = 0.03
    also_audit: float = 0.82
    also_personalisation: float = 0.5

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not 0.0 <= value <= 1.0:
                raise MalformedError(f"{each.name}: got {value}, want a share of 0 to 1")
        if abs(sum(self.shares()) - 1.0) > 1e-9:
            raise MalformedError(f"the kinds add up to {sum(self.shares()):.6f}, want 1")

    def shares(self) -> tuple[float, ...]:
        """Return the shares of the kinds, in the order of ``KINDS``."""
        return tuple(getattr(self, kind) for kind in KINDS)


KINDS = (
    *("granted", "will_withdraw", "refused", "withdrawn", "expired", "other_purpose"),
    *("unknown_age", "staff", "no_record"),
)
_GRANTED, _LATER, _REFUSED, _WITHDRAWN, _EXPIRED, _OTHER, _UNKNOWN, _STAFF, _NONE = range(9)
_MINOR = 9
_NO_ANSWER = (_MINOR, _UNKNOWN, _NONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedConsents:
    """What was simulated.

    Attributes:
        attested_age_band: shape (n,), in the order of the persons given: for `SealedFaces`.
        will_withdraw: persons to withdraw for while training runs, in random order.
        kinds: how many persons of each kind, ``minor`` among them.
        roles: how many persons of each role, minors and people without a record left out.
        events: how many consent events were written.
        notice: the notice they were shown.

    """

    attested_age_band: npt.NDArray[np.str_]
    will_withdraw: tuple[str, ...]
    kinds: Mapping[str, int]
    roles: Mapping[Role, int]
    events: int
    notice: Notice


def simulate_consents(
    registry: ConsentRegistry,
    persons: Sequence[str] | npt.NDArray[np.str_],
    *,
    seed: int,
    true_age_band: Sequence[str] | npt.NDArray[np.str_] | None = None,
    mix: ConsentMix | None = None,
    jurisdiction: str = "IE",
) -> SimulatedConsents:
    """Write simulated consents for n distinct persons, in one transaction.

    Who does what depends on ``seed`` and the order of persons alone (record ids and keys are
    secret and differ).

    Args:
        registry: of mode ``"simulation"``.
        persons: shape (n,), distinct ids without a record.
        seed: of the draw.
        true_age_band: shape (n,), `AgeBand` values; people attest their own. None draws adults of
            all ages and a share ``mix.minor`` of minors.
        mix: shares.
        jurisdiction: ISO 3166.

    Raises:
        ModeMismatchError: a production registry: simulated consent never enters it.
        MalformedError: persons that stand twice, bands that are none, or other lengths.

    """
    if registry.mode != "simulation":
        raise ModeMismatchError("simulated consents were offered to a production registry")
    names = as_names(persons)
    if len(set(names)) != len(names):
        raise MalformedError("a person stands twice")
    mix = mix or ConsentMix()
    rng = np.random.default_rng(seed)
    kinds, bands = _draw(rng, len(names), true_age_band, mix)
    notice = simulated_notice(registry.controller, jurisdiction=jurisdiction)
    registry.notice(notice)
    writer = _Writer(registry, rng, mix, notice, jurisdiction)
    roles = writer.write(names, kinds, bands)
    later = [names[i] for i in np.flatnonzero(kinds == _LATER)]
    labels = (*KINDS, "minor")
    counts = np.bincount(kinds, minlength=len(labels))
    return SimulatedConsents(
        attested_age_band=bands,
        will_withdraw=tuple(later[i] for i in rng.permutation(len(later))),
        kinds=MappingProxyType({k: int(n) for k, n in zip(labels, counts, strict=True)}),
        roles=MappingProxyType(dict(roles)),
        events=writer.events,
        notice=notice,
    )


def _draw(
    rng: np.random.Generator,
    size: int,
    true_age_band: Sequence[str] | npt.NDArray[np.str_] | None,
    mix: ConsentMix,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.str_]]:
    """Return the kind of each person, shape (n,), and what each attests, shape (n,)."""
    kinds = rng.choice(len(KINDS), size=size, p=np.array(mix.shares()))
    grown = rng.choice([b.value for b in _ADULTS], size=size, p=_ADULT_SHARES)
    young = rng.choice([b.value for b in _MINORS], size=size)
    if true_age_band is None:
        bands = grown.astype("<U8")
        is_minor = rng.random(size) < mix.minor
        bands[is_minor] = young[is_minor]
    else:
        bands = np.array(true_age_band, dtype="<U8")
        if bands.shape != (size,):
            raise MalformedError(f"true_age_band: got shape {bands.shape}, want ({size},)")
        odd = set(np.unique(bands).tolist()) - {band.value for band in AgeBand}
        if odd:
            raise MalformedError(f"true_age_band: {min(odd)!r} is no age band")
        is_minor = np.isin(bands, [b.value for b in _MINORS])
    kinds[bands == AgeBand.UNKNOWN.value] = _UNKNOWN
    kinds[is_minor] = _MINOR
    bands[kinds == _UNKNOWN] = AgeBand.UNKNOWN.value
    bands.flags.writeable = False
    return kinds, bands


class _Writer:
    """Turns kinds into drafts and commits them together."""

    def __init__(
        self,
        registry: ConsentRegistry,
        rng: np.random.Generator,
        mix: ConsentMix,
        notice: Notice,
        jurisdiction: str,
    ) -> None:
        self._registry = registry
        self._rng = rng
        self._mix = mix
        self._notice = notice
        self._jurisdiction = jurisdiction
        self._now = registry.now()
        self._nid = -1
        self.events = 0

    def write(
        self, names: list[str], kinds: npt.NDArray[np.int64], bands: npt.NDArray[np.str_]
    ) -> Counter[Role]:
        """Write everyone; return how many persons of each role have a record."""
        size = len(names)
        audits = self._rng.random(size) < self._mix.also_audit
        personal = self._rng.random(size) < self._mix.also_personalisation
        students = self._rng.random(size) < 0.2
        roles: Counter[Role] = Counter()
        with self._registry._bulk() as bulk:
            self._now = self._registry.now()
            self._nid = bulk.intake.notice(self._notice, tuple(Purpose))
            for i, name in enumerate(names):
                kind = int(kinds[i])
                if kind in (_MINOR, _UNKNOWN):
                    bulk.intake.screen_age(name, AgeBand(str(bands[i])), self._jurisdiction)
                if kind in _NO_ANSWER:
                    continue
                role = Role.SHOPPER
                if kind == _STAFF:
                    role = Role.STUDENT if students[i] else Role.EMPLOYEE
                roles[role] += 1
                self._person(bulk, name, kind, role, bool(audits[i]), bool(personal[i]))
        self.events = bulk.written
        return roles

    def _person(
        self, bulk: Bulk, name: str, kind: int, role: Role, audit: bool, personal: bool
    ) -> None:
        days = int(self._rng.integers(1, 60))
        answers: tuple[Purpose, ...] = (Purpose.TRAINING,)
        if kind == _REFUSED:
            return self._answer(bulk, name, tuple(Purpose), ConsentStatus.REFUSED, days)
        if kind == _OTHER:
            answers = (Purpose.FAIRNESS_AUDIT,) if audit else (Purpose.PERSONALISATION,)
            return self._answer(bulk, name, answers, ConsentStatus.GIVEN, days)
        if audit:
            answers += (Purpose.FAIRNESS_AUDIT,)
        if personal:
            answers += (Purpose.PERSONALISATION,)
        if kind == _STAFF:
            return self._answer(bulk, name, answers, ConsentStatus.INVALIDATED, days, role)
        if kind == _EXPIRED:
            days += _TERM.days
        self._answer(bulk, name, answers, ConsentStatus.GIVEN, days)
        if kind == _WITHDRAWN:
            self._answer(bulk, name, answers, ConsentStatus.WITHDRAWN, days - 1)
        return None

    def _answer(
        self,
        bulk: Bulk,
        name: str,
        purposes: tuple[Purpose, ...],
        status: ConsentStatus,
        days: int,
        role: Role = Role.SHOPPER,
    ) -> None:
        bulk.intake.write(
            name,
            purposes,
            status,
            role=role,
            jurisdiction=self._jurisdiction,
            nid=self._nid,
            at=self._now - timedelta(days=days),
            valid_for=_TERM,
            entity="registry" if status is ConsentStatus.INVALIDATED else "data_subject",
        )
