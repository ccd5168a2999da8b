"""`privemo federation`: stores on machines of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from privemo.cli import options as o
from privemo.cli.common import complain, out, print_json, print_lines, say
from privemo.cli.measured import agreed_counts, told_counted, told_measured
from privemo.cli.opening import PassphraseOption, unlock
from privemo.cli.sharing import takes
from privemo.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from privemo.countterms import CountTerms

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Stores on machines of their own, over TLS.")

StoreArgument = Annotated[Path, typer.Argument(metavar="STORE", help="Folder of the store.")]
ServerArgument = Annotated[Path, typer.Argument(metavar="CHAIN", help="Folder of the server.")]


@app.command()
def enroll(
    store: StoreArgument,
    name: Annotated[str, typer.Option(help="By which all others will know the store.")],
) -> None:
    """On a store's machine: make its keys, and a card to be carried to the server."""
    from privemo.federation.identity import CARD_FILE, enroll, keys_without_card

    kept = keys_without_card(store)
    card = enroll(store, name)
    if len(kept) == 2:
        say(
            f"{store / CARD_FILE} was not there. It is made again of {' and '.join(kept)}, which stay as "
            "they are: a run that knows this store goes on knowing it."
        )
    elif kept:
        say(
            f"Of two keys there was {kept[0]} alone. It stays, and the other is new: a run that knows this "
            "store by the one that is gone takes no other. Restore that one, or have a new run drawn up."
        )
    say(f"{card.name} has its keys. Carry {store / CARD_FILE} to whoever draws up the federation.")


@app.command()
@takes(o.bound, o.recipe, o.chain)
def init(
    ctx: typer.Context,
    chain: ServerArgument,
    card: Annotated[list[Path], typer.Option(help="Card of a store; give every store's.")],
    host: Annotated[
        list[str], typer.Option(help="Name or address that stores reach this machine by.")
    ],
    declared_people: Annotated[int, typer.Option(help="Public size of a store.")],
    port: Annotated[int, typer.Option(help="Port of the server.")] = 9092,
    days: Annotated[int, typer.Option(help="How long the server's certificate holds.")] = 365,
    round_timeout: Annotated[
        float, typer.Option(help="Seconds that a round waits for a store before it goes on.")
    ] = 3600.0,
    after: Annotated[
        Path | None,
        typer.Option(help="Server's folder of an earlier federation, whose ledgers have to go on."),
    ] = None,
    channels: Annotated[int, typer.Option(help="Of the pictures: 1 gray, 3 colour.")] = 1,
    noise: o.NoiseOption = o.NoiseName.distributed,
    may_drop: o.DropOption = 0.0,
    spare_rounds: o.SpareOption = 2,
    stores_per_person: o.StoresPerPersonOption = 1,
    init_from: Annotated[
        str, typer.Option("--init", help="`nobody`, `imagenet`, `scratch` or a file.")
    ] = "nobody",
    model: o.ModelOption = "emotion-cnn",
    challenge_age: o.AgeOption = 25.0,
    sensitive: o.SensitiveOption = None,
    groups: Annotated[
        Path | None,
        typer.Option(help="TOML file that names the groups of each such column; a policy will do."),
    ] = None,
    count_epsilon: Annotated[
        float | None,
        typer.Option(help="Count the people measured when it is finished, noised at this epsilon."),
    ] = None,
    count_releases: Annotated[
        int, typer.Option(help="Most releases of noised counts that a store makes.")
    ] = 2,
    exact_counts: Annotated[
        bool, typer.Option("--exact-counts", help="Sum up counts without noise instead, once.")
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(help="Repeatable, for stores of people who do not exist: never release it."),
    ] = None,
) -> None:
    """On the server: draw up the run, the certificate and the invitations."""
    from dataclasses import replace

    from privemo.federation.identity import StoreCard
    from privemo.federation.server import init_federation
    from privemo.recipes import distributed_recipe, local_recipe

    cards = [StoreCard.read(path) for path in card]
    shared = noise is o.NoiseName.distributed
    recipe = (
        distributed_recipe(declared_people, stores=len(cards))
        if shared
        else local_recipe(declared_people)
    )
    settings = replace(recipe, **o.recipe_options(ctx)).settings(
        o.promise(ctx),
        stores=len(cards),
        declared_people=declared_people,
        init=init_from,
        model=model,
        challenge_age=challenge_age,
        seed=seed,
        sensitive=tuple(sensitive or ()),
        counts=_terms(ctx, groups, sensitive or ()),
        **{name: ctx.params[name] for name in o.OF_CHAINS},
    )
    run = init_federation(
        chain,
        cards,
        settings,
        hosts=host,
        port=port,
        channels=channels,
        days=days,
        round_timeout=round_timeout,
        after=after,
    )
    say(
        f"{chain} is drawn up for {len(run.stores)} stores. Carry {chain / 'invitations'} to them, then: "
        f"privemo federation start {chain}"
    )


def _terms(ctx: typer.Context, groups: Path | None, sensitive: Sequence[str]) -> CountTerms | None:
    """What stores are asked to agree to have counted."""
    from privemo.countterms import CountTerms
    from privemo.labels import EMOTIONS
    from privemo_audits.cellplan import load_groups

    epsilon, exact = ctx.params["count_epsilon"], ctx.params["exact_counts"]
    if epsilon is None and not exact:
        o.refuse_given(
            ctx, {"groups", "count_releases"}, "Counts take --count-epsilon or --exact-counts"
        )
        return None
    if epsilon is not None and exact:
        raise SettingsError("--exact-counts have no noise: leave out --count-epsilon.")
    plan = load_groups(groups, sensitive, EMOTIONS)
    return CountTerms.of(groups=plan.groups, epsilon=epsilon, releases=ctx.params["count_releases"])


@app.command()
def join(
    store: StoreArgument,
    invitation: Annotated[
        Path | None, typer.Option(help="What to agree to; once, before the first start.")
    ] = None,
    count_epsilon: Annotated[
        float | None,
        typer.Option(help="Agree to counts at less epsilon than invited to; 0 for none."),
    ] = None,
    passphrase_file: PassphraseOption = None,
    wait: Annotated[
        bool, typer.Option("--start/--no-start", help="Take part at once, until stopped.")
    ] = True,
) -> None:
    """On a store's machine: agree to an invitation, and take part until stopped."""
    from privemo.federation.invitation import Invitation, join, layers_of_others
    from privemo.federation.supernode import serve_store

    if invitation is None and not wait:
        raise SettingsError("Nothing to do: give an --invitation, or leave out --no-start.")
    if invitation is None and count_epsilon is not None:
        raise SettingsError("--count-epsilon goes with --invitation: it is agreed on once.")
    unlock(store / "consent.sqlite", passphrase_file)
    if invitation is not None:
        config = join(store, Invitation.read(invitation), count_epsilon=count_epsilon)
        say(
            f"{config.name} agreed: epsilon {config.epsilon_budget:g} at delta {config.delta:g} for any "
            f"person, {config.declared_people} people declared, noise of "
            + (f"{config.noise_stores} stores or more" if config.roster else "its own")
            + f". {agreed_counts(config.counts)}"
        )
        if kept := layers_of_others(store, config.run_id):
            say(
                f"{store / 'personal'} holds layers of other runs ({', '.join(kept)}). This run does not "
                "read them, and nothing deletes them: do so once nothing is read with those runs' models."
            )
    if wait:
        serve_store(store, say)


@app.command()
def check(
    store: StoreArgument,
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="model.safetensors, or a file that export wrote."),
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(
            help="Of an exported model: a public key you trust; several times for several."
        ),
    ] = None,
) -> None:
    """On a store's machine: is this the model that the store signed? Exit code 1 when it is not."""
    from privemo.closing import check_model
    from privemo.errors import ModelChanged, UpdateRejected

    try:
        weights, run_id = _named_by(model, key or [])
        final = check_model(store, weights, run_id=run_id)
    except (UpdateRejected, ModelChanged) as another:
        # A verdict, as of `log verify` and `audit verify`, and no mistake of the caller.
        complain(str(another))
        raise typer.Exit(1) from another
    say(f"{model} is the model that {final.store} signed at the end of run {final.run_id}.")


def _named_by(model: Path, keys: list[str]) -> tuple[str, str | None]:
    """Hash of a model's weights, and the run that it says it is of."""
    if model.suffix == ".safetensors":
        from privemo import weights as w

        return w.sha256(w.load_weights(model)), None
    from privemo.recognizer.exported import open_exported
    from privemo_consent.keys import VerifyingKey

    if not keys:
        raise SettingsError("An exported model is signed: give a --key that you trust.")
    card = open_exported(model, [VerifyingKey.parse(text) for text in keys]).card
    return card.weights_sha256, card.run_id


@app.command()
def start(chain: ServerArgument) -> None:
    """On the server: let the invited stores in, and serve until stopped."""
    from privemo.federation.superlink import serve

    serve(chain, say)


@app.command()
def run(chain: ServerArgument) -> None:
    """On the server: run the rounds that are missing, with the stores that are there."""
    from privemo.federation.asking import run_rounds
    from privemo.runs import Run

    found = run_rounds(chain)
    the_run = Run(chain)
    say(f"All rounds are whole: {the_run.model_path}. {told_measured(the_run)}")
    if found is not None:
        say(told_counted(found))


@app.command()
def counts(
    chain: ServerArgument,
    epsilon: Annotated[
        float | None, typer.Option(help="Of the noise; what stores agreed to by default.")
    ] = None,
    sensitive: Annotated[
        list[str] | None,
        typer.Option(help="Column to count by; may be given several times; all by default."),
    ] = None,
    json_: o.JsonOption = False,
) -> None:
    """On the server: have stores count the people that they measured, and audit the sum."""
    import json

    from privemo.cli.counting import show_joined
    from privemo.counted import request_of
    from privemo.federation.asking import run_counts
    from privemo.runs import Run

    the_run = Run(chain)
    found = run_counts(chain, request_of(the_run, epsilon=epsilon, columns=sensitive))
    joined = found.joined.read_bytes()
    if json_:
        told = {"left_out": found.left_out, "joined": str(found.joined)}
        print_json({**told, "audit": json.loads(joined)})
        return
    show_joined(joined)
    print_lines(told_counted(found))


@app.command()
def status(chain: ServerArgument, json_: o.JsonOption = False) -> None:
    """On the server: rounds, and the stores that are there."""
    from privemo.counted import measured
    from privemo.federation.keys import revoked
    from privemo.federation.superlink import online_nodes
    from privemo.runs import Run

    the_run = Run(chain)
    nodes = online_nodes(chain)
    facts = {
        "run_id": the_run.run_id,
        "rounds": {"whole": len(the_run.manifests()), "of": the_run.settings.rounds},
        "stores": the_run.stores,
        "online": sum(node.get("status") == "online" for node in nodes),
        "measured": sum(why is None for why in measured(the_run).values()),
        "revoked": revoked(chain),
    }
    if json_:
        print_json(facts)
        return
    table = Table(show_header=False)
    table.add_row("Whole rounds", f"{facts['rounds']['whole']} of {facts['rounds']['of']}")
    table.add_row("Stores online", f"{facts['online']} of {len(the_run.stores)}")
    table.add_row("Stores measured", f"{facts['measured']} of {len(the_run.stores)}")
    if facts["revoked"]:
        table.add_row("Stores revoked", ", ".join(facts["revoked"]))
    out.print(table)


@app.command()
def revoke(
    chain: ServerArgument,
    store: Annotated[str, typer.Argument(metavar="NAME", help="Name of the store.")],
) -> None:
    """On the server: let a store in no more, from now on and for good."""
    from privemo.federation.keys import revoke, revoked
    from privemo.runs import Run

    stores = Run(chain).stores
    revoke(chain, store)
    left = len(stores) - len(revoked(chain))
    say(f"{store} is let in no more. {left} of {len(stores)} stores are left.")


@app.command()
def stop(chain: ServerArgument) -> None:
    """On the server: end it; whole rounds are kept, and stores wait for its return."""
    from privemo.federation.superlink import stop

    stop(chain)
    say(f"{chain} is stopped.")
