"""`privemo federation`: stores on machines of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from privemo.cli import options as o
from privemo.cli.common import out, print_json, say
from privemo.errors import SettingsError

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
    from privemo.federation.identity import CARD_FILE, enroll

    card = enroll(store, name)
    say(f"{card.name} has its keys. Carry {store / CARD_FILE} to whoever draws up the federation.")


@app.command()
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
    channels: Annotated[int, typer.Option(help="Of the pictures: 1 gray, 3 colour.")] = 1,
    rounds: o.RoundsOption = None,
    steps: o.StepsOption = None,
    epsilon: o.EpsilonOption = 8.0,
    delta: o.DeltaOption = 1e-5,
    accountant: o.AccountantOption = o.AccountantName.rdp,
    noise: o.NoiseOption = o.NoiseName.distributed,
    may_drop: o.DropOption = 0.0,
    spare_rounds: o.SpareOption = 2,
    proximal: o.ProximalOption = 0.0,
    personal: o.PersonalOption = o.PersonalName.none,
    aggregation: o.AggregationOption = o.AggregationName.mean,
    malicious_stores: o.MaliciousOption = 0,
    quorum: o.QuorumOption = 1,
    participation: o.ParticipationOption = 1.0,
    sample_rate: o.RateOption = None,
    rate_growth: o.GrowthOption = None,
    clip: o.ClipOption = None,
    lr: o.LrOption = None,
    lr_schedule: o.ScheduleOption = None,
    optimizer: o.OptimizerOption = None,
    momentum: o.MomentumOption = None,
    server_optimizer: o.ServerOptimizerOption = None,
    server_lr: o.ServerLrOption = None,
    server_momentum: o.ServerMomentumOption = None,
    ema: o.EmaOption = None,
    views: o.ViewsOption = None,
    images_per_person: o.ImagesOption = None,
    augment: o.AugmentOption = None,
    precision: o.PrecisionOption = None,
    init_from: Annotated[
        str, typer.Option("--init", help="`nobody`, `imagenet`, `scratch` or a file.")
    ] = "nobody",
    model: o.ModelOption = "emotion-cnn",
    challenge_age: o.AgeOption = 25.0,
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
    names = ("epsilon", "delta", "accountant", "noise", "may_drop", "spare_rounds")
    settings = replace(recipe, **o.recipe_options(ctx)).settings(
        {name: ctx.params[name] for name in names},
        stores=len(cards),
        declared_people=declared_people,
        init=init_from,
        model=model,
        challenge_age=challenge_age,
        seed=seed,
        **{name: ctx.params[name] for name in o.OF_CHAINS},
    )
    run = init_federation(
        chain, cards, settings, hosts=host, port=port, channels=channels, days=days
    )
    say(
        f"{chain} is drawn up for {len(run.stores)} stores. Carry {chain / 'invitations'} to them, then: "
        f"privemo federation start {chain}"
    )


@app.command()
def join(
    store: StoreArgument,
    invitation: Annotated[
        Path | None, typer.Option(help="What to agree to; once, before the first start.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--start/--no-start", help="Take part at once, until stopped.")
    ] = True,
) -> None:
    """On a store's machine: agree to an invitation, and take part until stopped."""
    from privemo.federation.invitation import Invitation, join
    from privemo.federation.processes import serve_store

    if invitation is None and not wait:
        raise SettingsError("Nothing to do: give an --invitation, or leave out --no-start.")
    if invitation is not None:
        config = join(store, Invitation.read(invitation))
        say(
            f"{config.name} agreed: epsilon {config.epsilon_budget:g} at delta {config.delta:g} for any "
            f"person, {config.declared_people} people declared, noise of "
            + (f"{config.noise_stores} stores or more" if config.roster else "its own")
            + "."
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
    """On a store's machine: whether a model is the one that the store signed at the end of its run."""
    from privemo.closing import check_model

    weights, run_id = _named_by(model, key or [])
    final = check_model(store, weights, run_id=run_id)
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
    from privemo.federation.processes import serve

    serve(chain, say)


@app.command()
def run(chain: ServerArgument) -> None:
    """On the server: run the rounds that are missing, with the stores that are there."""
    from privemo.federation.processes import run_rounds
    from privemo.runs import Run

    run_rounds(chain)
    say(f"All rounds are whole: {Run(chain).model_path}.")


@app.command()
def status(chain: ServerArgument, json_: o.JsonOption = False) -> None:
    """On the server: rounds, and the stores that are there."""
    from privemo.federation.processes import online_nodes
    from privemo.runs import Run

    the_run = Run(chain)
    nodes = online_nodes(chain)
    facts = {
        "run_id": the_run.run_id,
        "rounds": {"whole": len(the_run.manifests()), "of": the_run.settings.rounds},
        "stores": the_run.stores,
        "online": sum(node.get("status") == "online" for node in nodes),
    }
    if json_:
        print_json(facts)
        return
    table = Table(show_header=False)
    table.add_row("Whole rounds", f"{facts['rounds']['whole']} of {facts['rounds']['of']}")
    table.add_row("Stores online", f"{facts['online']} of {len(the_run.stores)}")
    out.print(table)


@app.command()
def stop(chain: ServerArgument) -> None:
    """On the server: end it; whole rounds are kept, and stores wait for its return."""
    from privemo.federation.processes import stop

    stop(chain)
    say(f"{chain} is stopped.")
