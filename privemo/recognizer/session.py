"""A session: one person at one place in front of a camera, for a while.

It is opened where the person answers (the kiosk), and holds their pseudonym in memory alone. Nobody is ever
recognised by face; so a session ends by itself when the face is gone, or somebody else could step in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from privemo.errors import SettingsError
from privemo.recognizer.readings import Region
from privemo_consent import AgeBand
from privemo_consent.times import elapsed

__all__ = ["Limits", "Session"]


@dataclass(frozen=True)
class Limits:
    """When a session ends by itself.

    Attributes:
        seconds: after it was opened.
        away: after the last face in the region.

    Raises:
        SettingsError: not above 0, or longer than an hour.
    """

    seconds: float = 600.0
    away: float = 5.0

    def __post_init__(self) -> None:
        for name, value in (("seconds", self.seconds), ("away", self.away)):
            if not 0 < value <= 3600:
                raise SettingsError(f"{name} is {value}: a session ends after 0 to 3600 seconds.")


class Session:
    """Made by `Recognizer.session`; closes at the end of a `with` block.

    Args:
        person: pseudonymous id, as in the registry.
        age_band: what they said of their age in this session, and anything else counts as unknown, and
            refuses; None where they were not asked again, for instance because they came back with a
            receipt: then what they said as they agreed counts, which minors cannot do.
        region: where they stand; None for the whole frame.
        limits: when it ends by itself.
        clock: seconds that only go forward, whatever is done to the machine's clock, and that go on while it
            sleeps.
    """

    def __init__(
        self,
        person: str,
        age_band: AgeBand | str | None,
        region: Region | None,
        limits: Limits,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        if not isinstance(person, str) or not person:
            raise SettingsError("A session is of somebody: give the id that the registry knows.")
        self._person: str | None = person
        self.age_band = None if age_band is None else str(age_band)
        self.region = region
        self._limits, self._clock = limits, clock
        self._opened = self._seen = clock()

    @property
    def person(self) -> str | None:
        """Whose session it is; None once it is over."""
        now = self._clock()
        late = now - self._opened > self._limits.seconds or now - self._seen > self._limits.away
        if late or now < self._seen:
            self.close()
        return self._person

    @property
    def open(self) -> bool:
        """Whether frames may still be looked at, if the gate agrees."""
        return self.person is not None

    def seen(self) -> None:
        """There was a face."""
        self._seen = self._clock()

    def close(self) -> None:
        """End it; who it was is forgotten."""
        self._person = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Session({'open' if self.open else 'over'})"  # names nobody: it may be logged
