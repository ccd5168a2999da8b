"""`privemo export` and `privemo card`: a finished run as one signed file, and what such a file says."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from privemo.cli.common import out, print_json, print_lines, say

if TYPE_CHECKING:
    from privemo.recognizer.card import ModelCard

__all__ = ["card", "export"]


class FormName(StrEnum):
    """How weights are stored."""

    int8 = "int8"
    fp32 = "fp32"


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A finished run folder.")],
    to: Annotated[Path, typer.Option("--out", help="The ONNX file to write.")],
    sign: Annotated[Path, typer.Option(help="Your private key, as `privemo audit key` makes one.")],
    name: Annotated[
        str | None, typer.Option(help="Your name, where the key does not say it.")
    ] = None,
    form: Annotated[
        FormName, typer.Option(help="Weights in 8 bits, small and fast, or in 32.")
    ] = FormName.int8,
    coverage: Annotated[
        float, typer.Option(help="Share of faces to read; of the others the model is too unsure.")
    ] = 0.9,
    people: Annotated[
        int, typer.Option(help="People who do not exist, to measure it on; 300 at least.")
    ] = 900,
    epsilon: Annotated[
        float | None,
        typer.Option(
            help="Let held-out people choose the temperature, at this cost to each; else nobody real does."
        ),
    ] = None,
    budget: Annotated[
        Path | None,
        typer.Option(
            help="With --epsilon: their lasting account, charged too; the run's own by default."
        ),
    ] = None,
    budget_epsilon: Annotated[
        float | None,
        typer.Option(
            help="With --epsilon: most that anybody in it may lose; the run's by default."
        ),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Write a run's model as one signed ONNX file for the apps of stores.

    The file carries its card and its privacy statement, which is of an audit made now. It is held against the
    trained model on people who do not exist, and not written where the two differ. A temperature makes it as
    sure as it is right: chosen on people who do not exist, or with --epsilon on held-out people who agreed to
    be measured.
    """
    from privemo.errors import SettingsError

    if epsilon is None and (budget, budget_epsilon) != (None, None):
        raise SettingsError("--budget and --budget-epsilon go with --epsilon.")

    from privemo.exporting import export as exported
    from privemo_consent.keys import SigningKey

    key = SigningKey.load(name, sign)
    say("Drawing people who do not exist, quantizing, auditing the run ...")
    made = exported(
        run,
        to,
        key=key,
        form=form.value,
        coverage=coverage,
        people=people,
        epsilon=epsilon,
        budget=budget,
        budget_epsilon=budget_epsilon,
    )
    if json_:
        print_json({"file": str(to), "key": str(key.verifying), "card": made.content()})
        return
    print_lines(*_lines(made), f"key: {key.verifying}")
    out.print(str(to), soft_wrap=True)


def card(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A file that export wrote.")],
    public: Annotated[
        list[str], typer.Option("--key", help="A public key you trust; several times for several.")
    ],
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Verify an exported model and print what it says of itself; nothing of it is run."""
    from privemo.recognizer.exported import open_exported
    from privemo_consent.keys import VerifyingKey

    found = open_exported(model, [VerifyingKey.parse(text) for text in public])
    if json_:
        print_json({"signed_by": list(found.signed_by), "card": found.card.content()})
        return
    print_lines(f"signed by: {', '.join(found.signed_by)}", *_lines(found.card))


def _lines(made: ModelCard) -> list[str]:
    privacy, near, unsure = made.privacy, made.agreement, made.abstention
    low, high = unsure.read_ci
    bound = (
        f"epsilon {privacy.epsilon:.2f}, delta {privacy.delta:g}, for each {privacy.unit}"
        if privacy.epsilon is not None and privacy.delta is not None
        else "no bound: trained without differential privacy"
    )
    consents = "simulated: no real person agreed" if made.simulated_consents else "of real people"
    right = "-" if unsure.accuracy is None else f"{unsure.accuracy:.1%}"
    near_torch = (
        f"against torch, on {near.faces:,} people who do not exist: {near.accuracy:.1%} named rightly "
        f"({near.accuracy_torch:.1%} by torch), probabilities within {near.difference:.2g}"
    )
    abstains = (
        f"says nothing below {unsure.threshold:.2f}: reads {unsure.read:.1%} of such people "
        f"(95% {low:.1%} to {high:.1%}), of those {right} rightly"
    )
    return [
        f"run: {made.run_id}, {made.architecture}, {made.form}, exported {made.exported:%Y-%m-%d}",
        f"the end of the run signed by: {made.stores_signed} of {made.trained_on.get('stores', '?')} stores",
        f"faces: {made.trained_on.get('origin', 'not stated')}; consents: {consents}",
        f"privacy: {bound}; audit {privacy.audit}",
        near_torch,
        _sureness(made),
        abstains,
        "whom the face detector and the age estimate leave out is no part of this: `privemo bench reader`",
    ]


def _sureness(made: ModelCard) -> str:
    how = made.calibration
    if how is None or made.temperature is None:
        return "temperature: none; how sure it is was not set right"
    whose = "people who do not exist, so it may be too sure of real ones"
    if how.epsilon is not None:
        whose = f"held-out people who agreed to be measured, at epsilon {how.epsilon:g} for each"
    return (
        f"temperature: {made.temperature:g}, chosen on {whose}; calibration error on {how.faces:,} other "
        f"people who do not exist {how.error_before:.1%} without it, {how.error_after:.1%} with it"
    )
