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
    name: Annotated[str, typer.Option(help="Your name, as in the key.")] = "exporter",
    form: Annotated[
        FormName, typer.Option(help="Weights in 8 bits, small and fast, or in 32.")
    ] = FormName.int8,
    coverage: Annotated[
        float, typer.Option(help="Share of faces to read; of the others the model is too unsure.")
    ] = 0.9,
    people: Annotated[
        int, typer.Option(help="People who do not exist, to measure it on; 300 at least.")
    ] = 900,
    json_: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Write a run's model as one signed ONNX file for the apps of stores.

    The file carries its card and its privacy statement, which is of an audit made now. It is held against the
    trained model on people who do not exist, and not written where the two differ.
    """
    from privemo.exporting import export as exported
    from privemo_consent.keys import SigningKey

    key = SigningKey.load(name, sign)
    say("Drawing people who do not exist, quantizing, auditing the run ...")
    made = exported(run, to, key=key, form=form.value, coverage=coverage, people=people)
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
        abstains,
    ]
