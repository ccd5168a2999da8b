"""The pages of what people take home: the receipt, its picture, its file; and the visit that may begin."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from ..errors import ConsentError, UnknownPersonError
from ..terms import Purpose
from .standing import Standing
from .web import Asked

__all__ = ["as_file", "receipt", "receipt_file", "receipt_svg", "visit_part"]


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
    """Show what was recorded and the receipt; the code as well, to whoever has just been given it."""
    token = _receipt(asked)
    standing = asked.desk.standing(asked.person, asked.texts.language)
    return asked.show(
        "receipt.html",
        standing=standing,
        changes=False,
        has_receipt=token is not None,
        # Drawn when the browser asks for it: nobody waits for a picture to read that they were heard.
        has_qr=token is not None and asked.desk.has_svg(token),
        **visit_part(asked, standing),
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
    return as_file(token + "\n", "application/jose", "receipt.jws")


def as_file(body: str, kind: str, name: str) -> Response:
    """Return something to take home as a file."""
    headers = {"content-disposition": f'attachment; filename="privemo-{name}"'}
    return Response(body, media_type=kind, headers=headers)


def visit_part(asked: Asked, standing: list[Standing]) -> dict[str, Any]:
    """Return what the part of a page about the visit needs; elsewhere than at a screen there is none."""
    wanted = (asked.desk.has_visits and asked.place is not None) and any(
        each.purpose is Purpose.PERSONALISATION and each.live for each in standing
    )
    return {"visits": wanted, "visit": asked.desk.visit(asked.here.visit) if wanted else None}
