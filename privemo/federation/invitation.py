"""What a store is invited to, and what it agrees to by joining.

An invitation holds nothing secret: where the server is and how to know it, who else takes part, and the
promise made to people. Joining writes all of it into the store's own `store.json`; from then on the store
holds every order against that file and not against what a server says later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from privemo.countterms import CountTerms
from privemo.dp.accounting import check_delta
from privemo.errors import RunError, SettingsError
from privemo.federation.identity import CARD_FILE, StoreCard
from privemo.files import changing, read_json, write_bytes, write_json
from privemo.heldoutledger import FILE as HELD_OUT
from privemo.heldoutledger import HeldOutLedger
from privemo.ledger import FILE as TRAINED
from privemo.ledger import Ledger
from privemo.orders import RUN_ID, PersonalName
from privemo.storeconfig import PERSONAL, STORE_FILE, StoreConfig

__all__ = ["AUTHORITY_FILE", "JOINED_FILE", "Agreement", "Invitation", "join", "layers_of_others"]

AUTHORITY_FILE, JOINED_FILE = "authority.pem", "joined.json"


class Agreement(BaseModel):
    """What a store's `store.json` holds of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    run_id: str = Field(pattern=RUN_ID)
    epsilon_budget: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)
    accountant: Literal["rdp", "prv"]
    max_stores_per_person: int = Field(ge=1)
    declared_people: int = Field(ge=1)
    largest_step: int = Field(ge=1)
    agreed: tuple[tuple[float, float], ...]
    challenge_age: float = Field(ge=18)
    jurisdiction: str
    sensitive: tuple[str, ...]
    roster: dict[str, str]
    noise_stores: int = Field(1, ge=1)
    personal: PersonalName = "none"
    counts: CountTerms | None = None


class Invitation(BaseModel):
    """One store's invitation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_: Literal["privemo.invitation/1"] = Field("privemo.invitation/1", alias="schema")
    store: str
    signing_key: str
    """Of the store that is invited, as on its card."""
    address: str
    """host:port of the server."""
    authority: str
    """PEM of the authority that the server's certificate is signed by."""
    agreement: Agreement

    @classmethod
    def read(cls, path: Path) -> Invitation:
        """Read an invitation.

        Raises:
            RunError: it is missing, or none.
        """
        if not path.exists():
            raise RunError(
                f"{path} does not exist. Whoever runs the server has one for each store, in invitations/."
            )
        content = read_json(path, schema="privemo.invitation/1")
        try:
            return cls(**content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise RunError(f"{path} is no invitation ({where}: {first['msg']}).") from error


def join(
    folder: Path, invitation: Invitation, *, count_epsilon: float | None = None
) -> StoreConfig:
    """Agree: write what was agreed on into the store's folder.

    The folder has the keys of `enroll` and the store's consent registry. A store that joined another run
    before keeps its ledger: what was spent on its people counts on.

    Args:
        folder: of the store.
        invitation: for this store.
        count_epsilon: agree to counts of the people measured at so much epsilon at most, less than invited
            to; 0 for no counts at all.

    Raises:
        RunError: the invitation is another store's, the folder has no registry, or it cannot be written.
        LedgerError: a ledger of the store is damaged: nobody can tell what its people were promised.
        SettingsError: a store of real people may not agree to this, its delta promises nothing or less than
            before, less epsilon for counts is more, or the registry's keys need a passphrase and nobody gave
            one (`privemo.unlocking`).
        privemo_consent.ConsentError: the registry cannot be opened.
    """
    card = StoreCard.read(folder / CARD_FILE)
    _check_whose(folder, card, invitation)
    agreed = invitation.agreement
    terms = _with_less(agreed, count_epsilon)
    _check_delta(folder, agreed)
    with changing(folder / STORE_FILE):  # a booth may be adding to its counts
        config = _config(folder, card.name, terms)
        write_bytes(folder / AUTHORITY_FILE, invitation.authority.encode())
        write_json(folder / STORE_FILE, config.model_dump(mode="json", by_alias=True))
    joined = {"schema": "privemo.joined/1", "address": invitation.address, "store": card.name}
    write_json(folder / JOINED_FILE, joined)
    return config


def _check_whose(folder: Path, card: StoreCard, invitation: Invitation) -> None:
    """Let an invitation pass that names this store by its key."""
    if card.name != invitation.store:
        raise RunError(
            f"This invitation is for {invitation.store}, and {folder} is {card.name}: take the one that the "
            f"server has in invitations/{card.name}.json."
        )
    named = invitation.signing_key
    where = "This invitation is"
    if named == card.signing_key and invitation.agreement.roster:
        named = invitation.agreement.roster.get(card.name, "")
        where = "The roster of this invitation is"
    if named != card.signing_key:
        raise RunError(
            f"{where} for {invitation.store} with the signing key {_short(named)}, and {folder} is "
            f"{card.name} with another, {_short(card.signing_key)}. Restore store.key, node.key and "
            f"{CARD_FILE} of before from a backup; or carry {folder / CARD_FILE} to the server, which has to "
            "draw up a new run with it."
        )


def _short(key: str) -> str:
    """A key as people compare it: how its hex digits on the card begin."""
    return f"{key[:16]}..." if key else "of nobody"


def layers_of_others(folder: Path, run_id: str) -> list[str]:
    """What lies in a store's `personal/` that is not of this run, by name; files of old versions lie loose.

    Nothing reads it in this run, and nothing deletes it: it was trained on the store's people.
    """
    return sorted(p.name for p in folder.glob(f"{PERSONAL}/[!.]*") if p.name != run_id)


def _with_less(agreed: Agreement, count_epsilon: float | None) -> Agreement:
    if count_epsilon is None:
        return agreed
    if agreed.counts is None:
        raise SettingsError("This invitation asks for no counts: leave out their epsilon.")
    return agreed.model_copy(update={"counts": agreed.counts.less(count_epsilon)})


def _check_delta(folder: Path, agreed: Agreement) -> None:
    """Hold the delta against the people it is for: they have a ledger, and more rounds fit at a larger one.

    The server checked it, when it drew up what it may have changed since. Where stores share no noise, a
    store does not know how many take part, and checks as if it were alone.

    Raises:
        LedgerError: a ledger is damaged.
        SettingsError: it promises nothing to so many people, or less than these were promised before.
    """
    anew = "Ask whoever runs the server for a run that is drawn up with `--delta"
    try:
        check_delta(agreed.delta, agreed.declared_people * max(1, len(agreed.roster)))
    except SettingsError as error:
        raise SettingsError(f"This invitation promises nothing. {error} {anew}`.") from error
    trained = [entry.delta for entry in Ledger(folder / TRAINED).entries]
    measured = [entry.delta for entry in HeldOutLedger(folder / HELD_OUT).entries]
    before = min([*trained, *measured, agreed.delta])
    if agreed.delta > before:
        raise SettingsError(
            f"This invitation has a delta of {agreed.delta}, and the people in the ledgers of {folder} were "
            f"promised {before}: at a larger one, what they lost would only count for less. {anew} "
            f"{before}` or less."
        )


def _config(folder: Path, name: str, agreed: Agreement) -> StoreConfig:
    """`store.json` of before, if there is one, with what was agreed on now."""
    path = folder / STORE_FILE
    before: dict[str, Any] = {}
    if path.exists():
        before = read_json(path, schema="privemo.store/3")
        if before["name"] != name:
            raise RunError(f"{path} is of {before['name']}, and the card beside it of {name}.")
    else:
        before = {"schema": "privemo.store/3", "name": name, "registry_mode": _mode(folder)}
    return StoreConfig.of(
        **{**before, **agreed.model_dump(), "stores_by_run": _stores_by_run(before, agreed)}
    )


def _stores_by_run(before: dict[str, Any], agreed: Agreement) -> dict[str, int]:
    """In how many stores a person could be, by run; of a run that is joined twice the most it ever said."""
    found: dict[str, int] = dict(before.get("stores_by_run", {}))
    said = [(agreed.run_id, agreed.max_stores_per_person)]
    if "run_id" in before:  # of before this was written down, or of a simulation
        said.append((before["run_id"], before.get("max_stores_per_person", 1)))
    for run_id, stores in said:
        found[run_id] = max(stores, found.get(run_id, 1))
    return found


def _mode(folder: Path) -> str:
    from privemo.unlocking import open_registry
    from privemo_consent import KeyFileError, ModeMismatchError

    path = folder / "consent.sqlite"
    if not path.exists():
        raise RunError(
            f"{folder} has no consent registry: make one with `privemo registry new {path} --mode production "
            "--controller controller.json`."
        )
    try:
        open_registry(path, "production").close()
    except ModeMismatchError:
        return "simulation"
    except KeyFileError as error:
        raise RunError(
            f"{error}. A store opens its registry by itself while rounds run: its keys must lie beside it, "
            "whole, sealed with a passphrase at most, and not in a keyring."
        ) from error
    return "production"
