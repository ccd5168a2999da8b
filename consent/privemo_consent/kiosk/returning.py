"""The pages for whoever comes back: what stands, what is held, withdraw, download, erase, visit."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from starlette.responses import Response

from ..errors import UnknownPersonError
from ..terms import Purpose
from .receiptpages import as_file, visit_part
from .web import Asked, go

__all__ = [
    "begin_visit",
    "end_visit",
    "erase",
    "erase_ask",
    "held",
    "held_file",
    "identify",
    "mine",
    "return_",
    "withdraw",
]


def return_(asked: Asked, problem: str = "", status: int = 200) -> Response:
    """Ask for the receipt."""
    return asked.show("return.html", problem=problem, status=status)


def identify(asked: Asked) -> Response:
    """Find who comes back; whatever leads to nobody gets the same answer."""
    # Whoever types here may be another than the one before, found or not.
    asked.desk.end_visits_at(asked.place)
    if asked.web.receipts.take(asked.address):
        return return_(asked, "problem_429", 429)
    typed = asked.form.get("receipt", "")
    presented = typed if typed.strip() else asked.form.get("file", "")
    try:
        person = asked.desk.identify(presented)
    except UnknownPersonError:
        return return_(asked, "return_nobody", 422)
    # A session of its own: nothing of whoever stood here before comes along.
    asked.end()
    asked.session, asked.ended = asked.web.sessions.begin(), False
    asked.here.person = person
    return go(asked, "mine")


def mine(asked: Asked) -> Response:
    """Show what stands, and everything that can be done about it."""
    told, asked.here.told = asked.here.told, None
    standing = asked.desk.standing(asked.person, asked.texts.language)
    return asked.show(
        "mine.html",
        standing=standing,
        changes=True,
        told=asked.texts(told) if told else "",
        **visit_part(asked, standing),
    )


def withdraw(asked: Asked) -> Response:
    """Take back one yes, or all: one touch, and it is on the disk."""
    named = asked.form.get("purpose")
    known = named is None or named in tuple(Purpose)
    if not known:
        return asked.message("sorry", "problem_404", status=404)
    asked.desk.withdraw(asked.person, None if named is None else Purpose(named))
    session = asked.here
    session.receipt = session.svg = None  # it says what was before
    session.told = "withdrawn"
    return go(asked, "mine")


def held(asked: Asked) -> Response:
    """Show everything held, and every use made."""
    person = asked.person
    everything = asked.desk.export(person)
    items = dict.fromkeys(("face", "demographic", "refusal"), 0)
    for item in everything["items"]:
        items[item["kind"]] += 1
    items["prediction"] = len(everything["predictions"])
    history = asked.desk.registry.history(person)
    return asked.show(
        "held.html", person=person, history=history, uses=_uses(everything), items=items
    )


def _uses(everything: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the uses made, by kind and purpose: how often, first and last."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    kinds = (("use_training", everything["uses"]), ("use_decision", everything["decisions"]))
    for kind, entries in kinds:
        for entry in entries:
            key = (kind, entry["purpose"])
            at = datetime.fromisoformat(entry["at"])
            row = found.setdefault(
                key,
                {"kind": kind, "purpose": entry["purpose"], "count": 0, "first": at},
            )
            row["count"] += 1
            row["last"] = at
    return list(found.values())


def held_file(asked: Asked) -> Response:
    """Return everything held as a file (GDPR 15, 20)."""
    body = json.dumps(asked.desk.export(asked.person), indent=2, ensure_ascii=False)
    return as_file(body + "\n", "application/json", "everything.json")


def erase_ask(asked: Asked) -> Response:
    """Ask once: it cannot be undone."""
    return asked.show("erase.html")


def erase(asked: Asked) -> Response:
    """Erase the person, and end the session."""
    whole = asked.desk.erase(asked.person)
    asked.end()
    return asked.message("erased_title", "erased_text" if whole else "erased_pending")


# -- visits ----------------------------------------------------------------------------------------


def begin_visit(asked: Asked) -> Response:
    """Open a visit at this screen: from now on the camera's program may ask for this person."""
    opened = asked.desk.open_visit(asked.person, asked.here.age_band, asked.place)
    asked.here.visit = None if opened is None else opened.token
    asked.here.told = "visit_told_not" if opened is None else "visit_told_begun"
    return go(asked, "mine")


def end_visit(asked: Asked) -> Response:
    """End the visit of this session, and any other this person has open."""
    asked.desk.end_visits(asked.person)
    asked.here.visit = None
    asked.here.told = "visit_told_ended"
    return go(asked, "mine")
