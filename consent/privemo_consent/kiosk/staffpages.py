"""The pages of the staff: a password, and figures in which nobody is named."""

from __future__ import annotations

from starlette.responses import Response

from .web import Asked, go

__all__ = ["enter", "leave", "staff", "verify"]

#: Every address together: guessing does not get faster by coming from many.
_EVERYONE = "everyone"


def staff(asked: Asked, problem: str = "", status: int = 200) -> Response:
    """Show the figures to whoever is let in, and everyone else the door."""
    if asked.web.staff is None:
        return asked.message("sorry", "problem_404", status=404)
    if not asked.here.staff:
        return asked.show("staff_login.html", problem=problem, status=status, ends=False)
    book = asked.desk.book
    return asked.show(
        "staff.html",
        ends=False,
        figures=asked.desk.figures(),
        checked=asked.desk.checked,
        visits=None if book is None else len(book.current()),
    )


def enter(asked: Asked) -> Response:
    """Let in whoever knows the password."""
    door, limit = asked.web.staff, asked.web.logins
    if door is None:
        return asked.message("sorry", "problem_404", status=404)
    if limit.take(asked.address) or limit.take(_EVERYONE):
        return staff(asked, "problem_429", 429)
    if not door.is_right(asked.form.get("password", "")):
        return staff(asked, "problem_password", 422)
    asked.here.staff = True
    asked.web.staff_sessions.renew_id(asked.here)
    return go(asked, "staff")


def verify(asked: Asked) -> Response:
    """Recompute the whole log."""
    asked.desk.verify()
    return go(asked, "staff")


def leave(asked: Asked) -> Response:
    """End the session of the staff."""
    asked.web.staff_sessions.end(asked.here)
    asked.session, asked.ended = None, True
    return go(asked, "staff")
