"""The closed vocabularies of consent: purposes, states, age bands, roles, settings, reasons.

Each enumeration's order is its code in the database: append, never reorder.
"""

from __future__ import annotations

from enum import StrEnum

__all__ = ["AgeBand", "ConsentStatus", "Purpose", "Reason", "Role", "Setting"]


class Purpose(StrEnum):
    """What a face may be used for; each is granted alone (GDPR 4(11), 6(1)(a)).

    Selling, advertising and anything that exploits age or vulnerability cannot be expressed
    (BIPA 15(c); EU AI Act 5(1)(b)).
    """

    TRAINING = "training"
    PERSONALISATION = "personalisation"
    FAIRNESS_AUDIT = "fairness_audit"


class ConsentStatus(StrEnum):
    """The states of ISO/IEC TS 27560 as the W3C Data Privacy Vocabulary names them.

    Only ``ConsentGiven`` and ``RenewedConsentGiven`` permit (DPV guide to 27560, 8.5.2).
    """

    UNKNOWN = "ConsentUnknown"
    REQUESTED = "ConsentRequested"
    REQUEST_DEFERRED = "ConsentRequestDeferred"
    REFUSED = "ConsentRefused"
    GIVEN = "ConsentGiven"
    EXPIRED = "ConsentExpired"
    INVALIDATED = "ConsentInvalidated"
    REVOKED = "ConsentRevoked"
    WITHDRAWN = "ConsentWithdrawn"
    RENEWED = "RenewedConsentGiven"

    @property
    def permits(self) -> bool:
        """True for the two states that can permit a use."""
        return self in (ConsentStatus.GIVEN, ConsentStatus.RENEWED)


class AgeBand(StrEnum):
    """The age a person states, in bands; ``unknown`` is treated as a child's (AADC 3)."""

    UNDER_13 = "under_13"
    FROM_13 = "13_15"
    FROM_16 = "16_17"
    FROM_18 = "18_24"
    FROM_25 = "25_34"
    FROM_35 = "35_44"
    FROM_45 = "45_54"
    FROM_55 = "55_64"
    FROM_65 = "65_plus"
    UNKNOWN = "unknown"

    @property
    def is_minor(self) -> bool:
        """True when the whole band is under 18; false for ``unknown``, which is no adult either."""
        return self in (AgeBand.UNDER_13, AgeBand.FROM_13, AgeBand.FROM_16)

    @property
    def is_adult(self) -> bool:
        """True when the whole band is 18 or older."""
        return self is not AgeBand.UNKNOWN and not self.is_minor


class Role(StrEnum):
    """What a person is to the place; only shoppers are ever read (EU AI Act 5(1)(f))."""

    SHOPPER = "shopper"
    EMPLOYEE = "employee"
    STUDENT = "student"


class Setting(StrEnum):
    """The kind of place; workplace and education are refused (EU AI Act 5(1)(f))."""

    RETAIL = "retail"
    WORKPLACE = "workplace"
    EDUCATION = "education"


class Reason(StrEnum):
    """Why a face was permitted or refused. Every decision has exactly one."""

    PERMITTED = "permitted"
    #: no record under this id, or none that is left
    NO_RECORD = "no_record"
    #: a record exists, in a state that is neither given nor one of those below
    NOT_GIVEN = "not_given"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    #: the term is over (DPV guide 8.5.4)
    EXPIRED = "expired"
    #: the person's records are all for other purposes (GDPR 4(11))
    WRONG_PURPOSE = "wrong_purpose"
    #: the session's age answer is under 18
    MINOR = "minor"
    #: the session's age answer is missing or no band
    UNKNOWN_AGE = "unknown_age"
    #: an age estimate lies under the challenge age, whatever the record says
    SUSPECTED_MINOR = "suspected_minor"
    #: an employee or student (EU AI Act 5(1)(f))
    STAFF = "staff"
    #: a workplace or a place of education (EU AI Act 5(1)(f)); or a jurisdiction that the notice
    #: the person agreed to is not written for
    WRONG_CONTEXT = "wrong_context"
    #: consent was given to an older notice (ISO/IEC 29184 5.5)
    NOTICE_CHANGED = "notice_changed"
    #: a simulated record met a production decision
    SIMULATED_IN_PRODUCTION = "simulated_in_production"
    #: the clock reads earlier than the log
    CLOCK_BACKWARDS = "clock_backwards"
    #: the registry could not be read, or deciding failed
    REGISTRY_UNREADABLE = "registry_unreadable"
    #: the answer could not be logged, and what is not logged does not happen (AI Act 12)
    NOT_LOGGED = "not_logged"
    #: nobody was told yet that expressions are read here (EU AI Act 50(3))
    NOT_ANNOUNCED = "not_announced"
