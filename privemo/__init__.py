"""privemo: emotion-aware stores without watching anyone who did not agree.

Every public name of the three packages can be imported from here; the module that holds it is loaded
at its first use, so `import privemo` stays cheap and needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from privemo_consent import __all__ as _CONSENT

__version__ = "0.1.0"

_WHERE: dict[str, str] = {
    **dict.fromkeys(("EMOTIONS", "IMAGE_SIZE"), "privemo.labels"),
    **dict.fromkeys(
        (
            "BudgetExhausted",
            "BudgetUnreachable",
            "CameraError",
            "DataError",
            "ExportRefused",
            "LedgerError",
            "MissingExtra",
            "ModelChanged",
            "ModelError",
            "NoFacesAdmitted",
            "NotMeasured",
            "PrivacyError",
            "PrivemoError",
            "RailBroken",
            "RunError",
            "RunInterrupted",
            "SettingsError",
            "TooFewPeople",
            "UpdateRejected",
        ),
        "privemo.errors",
    ),
    "CountTerms": "privemo.countterms",
    **dict.fromkeys(("PlainSettings", "PrivacySettings", "RunSettings"), "privemo.config"),
    **dict.fromkeys(("FaceTable", "Faces", "load_faces"), "privemo.faces"),
    **dict.fromkeys(("EmotionCNN", "build_model"), "privemo.models"),
    **dict.fromkeys(("SyntheticPeople", "synthesize"), "privemo.synthetic"),
    **dict.fromkeys(("Ledger", "LedgerEntry"), "privemo.ledger"),
    **dict.fromkeys(
        ("GaussianNoise", "calibrate_noise", "check_delta", "noised_count", "spent"), "privemo.dp"
    ),
    **dict.fromkeys(("Plan", "plan"), "privemo.dp.planning"),
    **dict.fromkeys(("Mechanism", "Stated"), "privemo.releases"),
    **dict.fromkeys(("Budget", "BudgetEntry", "Reservation"), "privemo.budget"),
    **dict.fromkeys(
        ("Event", "Limits", "Outcome", "Reading", "Recognizer", "Region", "Visits"),
        "privemo.recognizer",
    ),
    "frames": "privemo.pictures",
    **dict.fromkeys(("Booth", "Captured"), "privemo.booth"),
    "export": "privemo.exporting",
    **dict.fromkeys(
        (
            "AdaptationPolicy",
            "Appeal",
            "EmotionEstimate",
            "Offer",
            "Ranking",
            "Recommender",
            "load_adaptation_policy",
        ),
        "privemo.recommend",
    ),
    "Run": "privemo.runs",
    "attack": "privemo.attacks",
    "measure_excluded": "privemo.excluded",
    **dict.fromkeys(("attribute", "explain_data", "explain_run"), "privemo.explain"),
    "Store": "privemo.store",
    **dict.fromkeys(_CONSENT, "privemo_consent"),
    **dict.fromkeys(("AuditError", "Report", "build_report", "write_report"), "privemo_audits"),
}

__all__ = ["__version__", *sorted(_WHERE)]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'privemo' has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
