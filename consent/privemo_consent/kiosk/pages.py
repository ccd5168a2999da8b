"""The pages on which people decide, in the order in which they meet them."""

from __future__ import annotations

from starlette.responses import Response

from ..errors import NoticeRefused
from ..records import Notice
from ..terms import AgeBand, Purpose, Role
from .web import Asked, go

__all__ = [
    "about",
    "choices",
    "choose",
    "end",
    "ended",
    "home",
    "notice",
    "notice_of",
    "tell_about",
    "turned_away",
]

_BANDS = tuple(AgeBand)


def home(asked: Asked) -> Response:
    """Show the two ways in; whoever was known here has left, and their visit is over."""
    if _clear(asked):
        asked.desk.end_visits_at(asked.place)
    return asked.show("home.html", other_languages=asked.web.others(asked.texts))


def notice(asked: Asked) -> Response:
    """Show the notice in force, and remember which one it was."""
    _clear(asked)
    # Whoever reads it is the next one here: the camera must not take them for the last.
    asked.desk.end_visits_at(asked.place)
    if asked.session is None:
        asked.session = asked.web.sessions.begin()
    found = asked.desk.notice(asked.texts.language)
    asked.here.notice = found.hash
    return asked.show("notice.html", notice=found, other_languages=asked.web.others(asked.texts))


def _clear(asked: Asked) -> bool:
    """End the session of somebody who went without clearing the screen; return whether there was one."""
    known = asked.session is not None and asked.session.person is not None
    if known:
        asked.end()
    return known


def notice_of(asked: Asked) -> Notice:
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
    session = asked.here
    with session.lock:
        # What was said before is worth nothing now, whatever becomes of this answer.
        session.age_band = None
        try:
            band, role = AgeBand(asked.form.get("age", "")), Role(asked.form.get("role", ""))
        except ValueError:
            return about(asked, "problem_answer_all")
        if not band.is_adult or role is not Role.SHOPPER:
            # Before anything that may fail: nobody goes on from here as somebody else.
            asked.end()
            return turned_away(asked, session.person, band, role)
        notice_of(asked)
        session.age_band = band
    return go(asked, "choices")


def turned_away(asked: Asked, person: str | None, band: AgeBand, role: Role) -> Response:
    """Thank somebody whose session is over; whoever had consented has no consent any more."""
    asked.desk.end_visits_at(asked.place)
    if person is not None:
        # Never told to wait: until this is recorded their yes counts.
        asked.desk.rule_out(person, band, role, asked.texts.language)
    elif asked.web.answers.take(asked.address):
        return asked.message("sorry", "problem_429", status=429)
    else:
        asked.desk.turn_away(band, role, asked.desk.notice(asked.texts.language))
    # An age comes before a role: a child who works here is a child first.
    return asked.message("away_title", "away_staff" if band.is_adult else "away_minor")


def choices(asked: Asked, problem: str = "") -> Response:
    """Ask for each purpose alone; nothing is ticked, and no is as near as yes."""
    if asked.here.person is not None:
        return go(asked, "receipt")
    shown = notice_of(asked)
    told = {each.item: each.words for each in shown.told or ()}
    words = {purpose.value: told.get(purpose.value, "") for purpose in shown.purposes}
    return asked.show(
        "choices.html",
        # In one order everywhere; a notice may name them in any.
        purposes=[purpose for purpose in Purpose if purpose in shown.purposes],
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
        if session.age_band is None:  # another answer came in between
            return go(asked, "ended")
        shown = notice_of(asked)
        given = {purpose: asked.form.get(purpose.value) for purpose in shown.purposes}
        if not all(answer in ("yes", "no") for answer in given.values()):
            return choices(asked, "problem_answer_all")
        if asked.web.answers.take(asked.address):
            return asked.message("sorry", "problem_429", status=429)
        session.person, session.code = asked.desk.record(
            {purpose: answer == "yes" for purpose, answer in given.items()},
            age_band=session.age_band,
            notice=shown.hash,
        )
        asked.web.sessions.renew_id(session)
    asked.desk.end_visits_at(asked.place)
    return go(asked, "receipt")


# -- leaving ---------------------------------------------------------------------------------------


def end(asked: Asked) -> Response:
    """Clear the screen; a visit goes on, for it is why somebody was here."""
    asked.end()
    return go(asked, "ended")


def ended(asked: Asked) -> Response:
    """Say good-bye."""
    asked.end()
    return asked.message("ended_title", "ended_text")
