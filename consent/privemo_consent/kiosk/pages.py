"""The pages that people see, in the order in which they meet them."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response

from ..errors import ConsentError, NoticeRefused, UnknownPersonError
from ..records import Notice
from ..terms import AgeBand, Purpose, Role
from .web import Asked, go

__all__ = [
    "about",
    "begin_visit",
    "choices",
    "choose",
    "end",
    "end_visit",
    "ended",
    "erase",
    "erase_ask",
    "held",
    "held_file",
    "home",
    "identify",
    "mine",
    "notice",
    "receipt",
    "receipt_file",
    "receipt_svg",
    "return_",
    "tell_about",
    "withdraw",
]

_BANDS = tuple(AgeBand)


def home(asked: Asked) -> Response:
    """Show the two ways in; whoever was known here has left."""
    _clear(asked)
    return asked.show("home.html", other_languages=asked.web.others(asked.texts))


def notice(asked: Asked) -> Response:
    """Show the notice in force, and remember which one it was."""
    _clear(asked)
    if asked.session is None:
        asked.session = asked.web.sessions.begin()
    found = asked.desk.notice(asked.texts.language)
    asked.here.notice = found.hash
    return asked.show("notice.html", notice=found, other_languages=asked.web.others(asked.texts))


def _clear(asked: Asked) -> None:
    """End the session of somebody who went without clearing the screen: the next one is another."""
    if asked.session is not None and asked.session.person is not None:
        asked.end()


def _notice_of(asked: Asked) -> Notice:
    """Return the notice that was on this screen.

    Raises:
        NoticeRefused: another one is in force by now; people have to read that first.

    """
    found = asked.desk.notice(asked.texts.language)
    if asked.here.notice != found.hash:
        raise NoticeRefused("the notice that was shown is not in force any more")
    return found


def about(asked: Asked, problem: str = "") -> Response:
    """Ask for age band and role; nothing is ticked."""
    if asked.here.notice is None:
        return go(asked, "notice")
    return asked.show(
        "about.html",
        bands=[band.value for band in _BANDS],
        roles=[role.value for role in Role],
        problem=problem,
        status=422 if problem else 200,
    )


def tell_about(asked: Asked) -> Response:
    """Take the answers; whoever may not take part is thanked, and counted."""
    try:
        band, role = AgeBand(asked.form.get("age", "")), Role(asked.form.get("role", ""))
    except ValueError:
        return about(asked, "problem_answer_all")
    shown = _notice_of(asked)
    if band.is_adult and role is Role.SHOPPER:
        asked.here.age_band = band
        return go(asked, "choices")
    if asked.web.answers.take(asked.address):
        return asked.message("sorry", "problem_429", status=429)
    asked.desk.turn_away(band, role, shown)
    asked.end()
    # An age comes before a role: a child who works here is a child first.
    return asked.message("away_title", "away_staff" if band.is_adult else "away_minor")


def choices(asked: Asked, problem: str = "") -> Response:
    """Ask for each purpose alone; nothing is ticked, and no is as near as yes."""
    if asked.here.person is not None:
        return go(asked, "receipt")
    shown = _notice_of(asked)
    told = {each.item: each.words for each in shown.told or ()}
    words = {purpose.value: told.get(purpose.value, "") for purpose in shown.purposes}
    return asked.show(
        "choices.html",
        notice=shown,
        told=words,
        problem=problem,
        status=422 if problem else 200,
    )


def choose(asked: Asked) -> Response:
    """Record the answers, all in one; a form sent twice is recorded once."""
    session = asked.here
    with session.lock:
        if session.person is not None:
            return go(asked, "receipt")
        shown = _notice_of(asked)
        given = {purpose: asked.form.get(purpose.value) for purpose in shown.purposes}
        if not all(answer in ("yes", "no") for answer in given.values()):
            return choices(asked, "problem_answer_all")
        if asked.web.answers.take(asked.address):
            return asked.message("sorry", "problem_429", status=429)
        assert session.age_band is not None  # noqa: S101 - `Web.page` saw to it
        session.person, session.code = asked.desk.record(
            {purpose: answer == "yes" for purpose, answer in given.items()},
            age_band=session.age_band,
            notice=shown.hash,
        )
        asked.web.sessions.renew_id(session)
    return go(asked, "receipt")


def _receipt(asked: Asked) -> str | None:
    """Return the receipt of this session, made once; None where it cannot be made just now."""
    session = asked.here
    with session.lock:
        if session.receipt is None:
            try:
                session.receipt = asked.desk.receipt(asked.person)
            except UnknownPersonError:
                raise
            except (
                ConsentError
            ):  # what was answered is recorded all the same: say that, not the other
                return None
        return session.receipt


def receipt(asked: Asked) -> Response:
    """Show what was recorded, the code, and the receipt."""
    if asked.here.code is None:
        return go(asked, "mine")
    token = _receipt(asked)
    return asked.show(
        "receipt.html",
        standing=asked.desk.standing(asked.person),
        withdraws=False,
        has_receipt=token is not None,
        has_qr=token is not None and _svg(asked) is not None,
        **_visit(asked),
    )


def _svg(asked: Asked) -> str | None:
    session, token = asked.here, _receipt(asked)
    if session.svg is None and token is not None:
        session.svg = asked.desk.svg(token)
    return session.svg


def receipt_svg(asked: Asked) -> Response:
    """Return the QR code of this session's receipt."""
    drawn = _svg(asked)
    if drawn is None:
        return asked.message("sorry", "problem_404", status=404)
    return Response(drawn, media_type="image/svg+xml")


def receipt_file(asked: Asked) -> Response:
    """Return this session's receipt as a file."""
    token = _receipt(asked)
    if token is None:
        return asked.message("sorry", "problem_503", status=503)
    return _file(token + "\n", "application/jose", "receipt.jws")


def _file(body: str, kind: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="privemo-{name}"'}
    return Response(body, media_type=kind, headers=headers)


# -- coming back -----------------------------------------------------------------------------------


def return_(asked: Asked, problem: str = "", status: int = 200) -> Response:
    """Ask for the receipt."""
    return asked.show("return.html", problem=problem, status=status)


def identify(asked: Asked) -> Response:
    """Find who comes back; whatever leads to nobody gets the same answer."""
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
    return asked.show(
        "mine.html",
        standing=asked.desk.standing(asked.person),
        withdraws=True,
        told=asked.texts(told) if told else "",
        **_visit(asked),
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
            row = found.setdefault(
                key,
                {"kind": kind, "purpose": entry["purpose"], "count": 0, "first": entry["at"]},
            )
            row["count"] += 1
            row["last"] = entry["at"]
    return list(found.values())


def held_file(asked: Asked) -> Response:
    """Return everything held as a file (GDPR 15, 20)."""
    body = json.dumps(asked.desk.export(asked.person), indent=2, ensure_ascii=False)
    return _file(body + "\n", "application/json", "everything.json")


def erase_ask(asked: Asked) -> Response:
    """Ask once: it cannot be undone."""
    return asked.show("erase.html")


def erase(asked: Asked) -> Response:
    """Erase the person, and end the session."""
    whole = asked.desk.erase(asked.person)
    asked.end()
    return asked.message("erased_title", "erased_text" if whole else "erased_pending")


# -- visits ----------------------------------------------------------------------------------------


def _visit(asked: Asked) -> dict[str, Any]:
    """Return what the part of a page about the visit needs."""
    wanted = asked.desk.has_visits and any(
        each.purpose is Purpose.PERSONALISATION and each.live
        for each in asked.desk.standing(asked.person)
    )
    return {"visits": wanted, "visit": asked.desk.visit(asked.here.visit) if wanted else None}


def begin_visit(asked: Asked) -> Response:
    """Open a visit: from now on the camera's program may ask for this person."""
    opened = asked.desk.open_visit(asked.person, asked.here.age_band)
    asked.here.visit = None if opened is None else opened.token
    asked.here.told = "visit_told_not" if opened is None else "visit_told_begun"
    return go(asked, "mine")


def end_visit(asked: Asked) -> Response:
    """End the visit of this session, and any other this person has open."""
    asked.desk.end_visits(asked.person)
    asked.here.visit = None
    asked.here.told = "visit_told_ended"
    return go(asked, "mine")


# -- leaving ---------------------------------------------------------------------------------------


def end(asked: Asked) -> Response:
    """Clear the screen; a visit goes on, for it is why somebody was here."""
    asked.end()
    return go(asked, "ended")


def ended(asked: Asked) -> Response:
    """Say good-bye."""
    asked.end()
    return asked.message("ended_title", "ended_text")
