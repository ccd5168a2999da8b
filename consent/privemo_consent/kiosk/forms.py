"""What a browser sends back, and whether it is from our own page."""

from __future__ import annotations

import python_multipart  # noqa: F401 - reads forms for Starlette, which misses it only then
from starlette.datastructures import UploadFile
from starlette.requests import Request

from .guard import MAX_BODY

__all__ = ["is_own", "quietly", "read_form"]

_MOST_FIELDS = 12


def is_own(request: Request) -> bool:
    """Return whether a browser says that a form comes from our own page, where it says anything."""
    site = request.headers.get("sec-fetch-site")
    if site not in (None, "same-origin", "none"):  # none: a person reloads the page
        return False
    origin = request.headers.get("origin")
    return origin is None or origin == f"{request.url.scheme}://{request.headers['host']}"


async def read_form(request: Request) -> dict[str, str]:
    """Read a form; the text of an uploaded file stands under the name of its field."""
    found: dict[str, str] = {}
    async with request.form(max_files=1, max_fields=_MOST_FIELDS, max_part_size=MAX_BODY) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                text = (await value.read(MAX_BODY)).decode("ascii", "replace")
            else:
                text = value
            found.setdefault(name, text)
    return found


def quietly(error: BaseException) -> str:
    """Return what a log may say of a failure: its kind, never its words."""
    return f"{type(error).__module__}.{type(error).__name__}"
