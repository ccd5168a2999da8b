"""What a place is: the path of a file, or a URL; and how messages name it, without its password."""

from __future__ import annotations

import os
import re

import sqlalchemy as sa

from ..errors import MalformedError

__all__ = ["DEFAULT_SCHEMA", "is_url", "parse_url", "shown"]

DEFAULT_SCHEMA = "privemo"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_POSTGRES = frozenset({"postgresql", "postgres", "postgresql+psycopg"})
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SECRETS = ("password", "sslpassword")
#: A URL with a slip of the pen: taken for a path, its password would stand in every message.
_SLIP = re.compile(r"\W*(postgres\w*(\W*:|//)|[a-z][a-z0-9+.-]+:/)", re.IGNORECASE)
_WANTED = "want the path of a file, or postgresql://user@host/database"


def is_url(where: str | os.PathLike[str]) -> bool:
    """Return whether a place is on a server; everything else is the path of a file.

    Raises:
        MalformedError: a URL of another kind of database, or a URL that is mistyped; the text is not
            repeated, it may hold a password.

    """
    text = str(where)
    found = _SCHEME.match(text) if isinstance(where, str) else None
    if found is None:
        if _SLIP.match(text) and "@" in text:
            raise MalformedError(f"got what looks like a URL and is none: {_WANTED}")
        return False
    if found[1].lower() not in _POSTGRES:
        raise MalformedError(f"got {found[1]}://, want the path of a file or postgresql://")
    return True


def parse_url(text: str) -> tuple[sa.URL, str]:
    """Return the URL for SQLAlchemy and the schema that it names.

    Raises:
        MalformedError: no URL, or no schema's name; the text is not repeated, it may hold a
            password.

    """
    try:
        url = sa.make_url(text).set(drivername="postgresql+psycopg")
    except (sa.exc.ArgumentError, ValueError):
        raise MalformedError("got a URL that cannot be read: postgresql://user@host/name") from None
    if "@" in f"{url.host}{url.database}":  # the end of a password that was cut at its own @ or /
        raise MalformedError(
            "got a URL with @ in its host or database: write @ in a password as %40, / as %2F"
        )
    name = url.query.get("schema", DEFAULT_SCHEMA)
    if not isinstance(name, str) or not _SCHEMA.fullmatch(name) or name.startswith("pg_"):
        raise MalformedError("got a schema that is no name of lower-case letters, digits and _")
    return url.difference_update_query(["schema"]), name


def shown(where: str | os.PathLike[str]) -> str:
    """Return how messages name a place: a path as it is, a URL without its password.

    Raises:
        MalformedError: see `is_url` and `parse_url`.

    """
    if not is_url(where):
        return str(where)
    url, schema = parse_url(str(where))
    url = url.set(drivername="postgresql")._replace(password=None).difference_update_query(_SECRETS)
    if schema != DEFAULT_SCHEMA:
        url = url.update_query_dict({"schema": schema})
    return url.render_as_string()
