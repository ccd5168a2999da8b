"""The page on which whoever came back gives one answer anew; taking one back needs none (GDPR 7(3)).

A yes is explicit and informed each time (GDPR 4(11)): the notice in force stands on the page, age and role
are asked for unless they were in this session, nothing is ticked, and no is as near as yes. The form says for
which purpose it was shown, and is of no use for another.
"""

from __future__ import annotations

from starlette.responses import Response

from ..records import Notice
from ..terms import AgeBand, Purpose, Role
from .pages import notice_of, turned_away
from .web import Asked, go

__all__ = ["begin", "change", "record"]

_BANDS = tuple(AgeBand)


def begin(asked: Asked) -> Response:
    """Remember which answer is to be given anew; its name stands in no address."""
    named = asked.form.get("purpose", "")
    if named not in tuple(Purpose):
        return asked.message("sorry", "problem_404", status=404)
    asked.here.changing = Purpose(named)
    return go(asked, "change")


def change(asked: Asked, problem: str = "") -> Response:
    """Show the notice in force and ask for this one purpose."""
    session = asked.here
    shown = asked.desk.notice(asked.texts.language)
    if session.changing is None or session.changing not in shown.purposes:
        return go(asked, "mine")
    session.notice = shown.hash
    return asked.show(
        "change.html",
        notice=shown,
        purpose=session.changing.value,
        words=_words(shown, session.changing),
        asks_age=session.age_band is None,
        bands=[band.value for band in _BANDS],
        roles=[role.value for role in Role],
        problem=problem,
        status=422 if problem else 200,
    )


def _words(notice: Notice, purpose: Purpose) -> str:
    """Return how the notice itself tells of a purpose."""
    told = {each.item: each.words for each in notice.told or ()}
    return told.get(purpose.value, "")


def record(asked: Asked) -> Response:
    """Record the one answer; a form sent twice is recorded once."""
    session, form = asked.here, asked.form
    with session.lock:
        if session.changing is None:
            return go(asked, "mine")
        if form.get("purpose") != session.changing.value:
            # Begun for another purpose in another tab: whoever answers has read of that one here.
            return go(asked, "change")
        if session.age_band is None:
            try:
                band, role = AgeBand(form.get("age", "")), Role(form.get("role", ""))
            except ValueError:
                return change(asked, "problem_answer_all")
            if not band.is_adult or role is not Role.SHOPPER:
                asked.end()
                return turned_away(asked, session.person, band, role)
            age_band = band
        else:
            age_band = session.age_band
        shown = notice_of(asked)
        if form.get("answer") not in ("yes", "no") or session.changing not in shown.purposes:
            return change(asked, "problem_answer_all")
        if asked.web.answers.take(asked.address):
            return asked.message("sorry", "problem_429", status=429)
        asked.desk.change(
            asked.person,
            session.changing,
            form["answer"] == "yes",
            age_band=age_band,
            notice=shown.hash,
        )
        session.age_band, session.changing = age_band, None
        session.receipt = session.svg = None  # it says what was before
    return go(asked, "receipt")
