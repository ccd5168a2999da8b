"""Settings that would change nothing: whoever sets one expects something of it.

| asked for | why nothing would come of it |
|---|---|
| momentum, with one step to a round | a store's optimizer begins anew in every round and remembers no step |
| a pull to the round's model, likewise | the one step begins at that very model |
| a person in more stores than there are | nobody can be, and noise would be raised for nobody |

Looked at when a run is laid out and not when its settings are read, so that older runs still open.
"""

from __future__ import annotations

from privemo.config import RunSettings
from privemo.errors import SettingsError

__all__ = ["refuse_without_effect"]


def refuse_without_effect(settings: RunSettings) -> None:
    """Refuse what would change nothing, and say what would.

    Raises:
        SettingsError: a setting has no effect in a run of these settings.
    """
    privacy = settings.privacy
    if privacy is None:
        return  # a round has many steps, and their momentum is not set here
    if settings.steps_per_round == 1:
        if settings.momentum:
            raise SettingsError(
                "momentum is of a store's steps within a round, and a round has one: set server_momentum, "
                "which lasts over the rounds."
            )
        if settings.proximal:
            raise SettingsError(
                "proximal is a pull back to the model that a round begins with, and the one step of a round "
                "begins there: leave out proximal (to damp the rounds, set server_momentum)."
            )
    if privacy.max_stores_per_person > settings.stores:
        raise SettingsError(
            f"max_stores_per_person is {privacy.max_stores_per_person}, and nobody can be in more stores "
            f"than the {settings.stores} there are."
        )
