"""Notices that may be shown: complete, told in words, in two languages; and parts to break them."""

from __future__ import annotations

from privemo_consent.records import Notice, Party, Purpose, Right

AUTHORITY = Party(
    id="dpc",
    name="Data Protection Commission",
    address="6 Pembroke Row, Dublin",
    contact="https://www.dataprotection.ie",
    type="authority",
)

ENGLISH = """{name} asks whether it may use pictures of your face. You decide. Version {version}.

We ask for three things, and you may agree to each alone:
- to train a model that reads four expressions;
- to suit what this shop shows you to your mood;
- to check that the model works for everyone.

We use the pictures only with your explicit consent. They stay in the store for {days} days.
Then they are deleted. Nobody else receives them, and they do not leave the country.
You may say no: you shop here just as before. You can take your yes back at any time: {withdrawal}.

You can see what we hold, have it put right, have it deleted, have its use put on hold, or take
it with you. Ask {contact}. You can also complain to the Data Protection Commission.
"""
GERMAN = """{name} fragt, ob wir Bilder Ihres Gesichts verwenden dürfen. Sie entscheiden. Fassung {version}.

Wir fragen nach drei Dingen, und Sie können jedem einzeln zustimmen:
- ein Modell zu trainieren, das vier Gesichtsausdrücke liest;
- was dieser Laden Ihnen zeigt, an Ihre Stimmung anzupassen;
- zu prüfen, ob das Modell für alle funktioniert.

Wir verwenden die Bilder nur mit Ihrer ausdrücklichen Einwilligung. Sie bleiben {days} Tage lang
im Laden. Dann werden sie gelöscht. Niemand sonst erhält sie, und sie verlassen das Land nicht.
Sie können nein sagen: Sie kaufen hier ein wie zuvor. Ihr Ja können Sie jederzeit zurücknehmen: {withdrawal}.

Sie können sehen, was wir haben, es berichtigen, es löschen lassen, seine Nutzung anhalten lassen
oder es mitnehmen. Fragen Sie {contact}. Sie können sich auch bei der Data Protection Commission
beschweren.
"""
WORDS = {
    "en": {
        "text": ENGLISH,
        "storage_location": "in the store",
        "withdrawal_method": "the same screen, one touch",
        "refusal": "you shop here just as before",
        "told": {
            Purpose.TRAINING: "to train a model that reads four expressions",
            Purpose.PERSONALISATION: "to suit what this shop shows you to your mood",
            Purpose.FAIRNESS_AUDIT: "to check that the model works for everyone",
            "lawful_basis": "only with your explicit consent",
            Right.ACCESS: "see what we hold",
            Right.RECTIFICATION: "have it put right",
            Right.ERASURE: "have it deleted",
            Right.RESTRICTION: "have its use put on hold",
            Right.PORTABILITY: "take it with you",
        },
    },
    "de": {
        "text": GERMAN,
        "storage_location": "im Laden",
        "withdrawal_method": "derselbe Bildschirm, ein Tippen",
        "refusal": "Sie kaufen hier ein wie zuvor",
        "told": {
            Purpose.TRAINING: "ein Modell zu trainieren",
            Purpose.PERSONALISATION: "an Ihre Stimmung anzupassen",
            Purpose.FAIRNESS_AUDIT: "ob das Modell für alle funktioniert",
            "lawful_basis": "nur mit Ihrer ausdrücklichen Einwilligung",
            Right.ACCESS: "sehen, was wir haben",
            Right.RECTIFICATION: "es berichtigen",
            Right.ERASURE: "es löschen lassen",
            Right.RESTRICTION: "seine Nutzung anhalten lassen",
            Right.PORTABILITY: "es mitnehmen",
        },
    },
}


def notice_fields(
    controller: Party, version: int = 1, *, language: str = "en", retention_days: int = 365
) -> dict[str, object]:
    """Return the fields of a notice that passes every check; change some to break it."""
    words = WORDS[language]
    text = str(words["text"]).format(
        name=controller.name,
        contact=controller.contact,
        version=version,
        days=retention_days,
        withdrawal=words["withdrawal_method"],
    )
    return words | {
        "notice_id": "faces",
        "version": version,
        "language": language,
        "text": text,
        "controller": controller,
        "purposes": tuple(Purpose),
        "jurisdictions": ("IE",),
        "recipients": "none",
        "retention_days": retention_days,
        "representative": "none",
        "data_protection_officer": "none",
        "transfers": "none",
        "rights": tuple(Right),
        "authority": AUTHORITY,
        "data_required": False,
        "automated_decisions": "none",
    }


def whole_notice(
    shop: Party,
    version: int = 1,
    *,
    language: str = "en",
    retention_days: int = 365,
    **changes: object,
) -> Notice:
    """Return a notice that passes every check, unless a change breaks it.

    Purposes that are left out are told of no more.
    """
    fields = notice_fields(shop, version, language=language, retention_days=retention_days)
    fields |= changes
    if "purposes" in changes and "told" not in changes:
        left_out = set(Purpose) - set(changes["purposes"])  # type: ignore[call-overload]
        fields["told"] = {k: v for k, v in fields["told"].items() if k not in left_out}  # type: ignore[attr-defined]
    return Notice.model_validate(fields)
