"""Options that commands share: lent whole, under a heading of their own, and never twice."""

from __future__ import annotations

from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from privemo.cli.sharing import names_of, takes


def weather(
    wind: Annotated[float, typer.Option(help="Metres a second.")] = 3.0,
    rain: Annotated[int | None, typer.Option("--rain", help="Millimetres.")] = None,
) -> None:
    """What the sky does.

    Not part of the heading.
    """


def sailing() -> typer.Typer:
    app = typer.Typer()

    @app.command()
    @takes(weather)
    def sail(ctx: typer.Context, boat: Annotated[str, typer.Argument()], crew: int = 1) -> None:
        """Leave the harbour."""
        typer.echo(f"{boat} {crew} {ctx.params['wind']:g} {ctx.params['rain']}")

    return app


def said(*arguments: str) -> str:
    result = CliRunner().invoke(sailing(), arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_a_command_finds_what_was_lent_in_its_context() -> None:
    assert said("Amber", "--crew", "2", "--wind", "7.5", "--rain", "4") == "Amber 2 7.5 4\n"


def test_defaults_and_types_are_those_of_the_group() -> None:
    assert said("Amber") == "Amber 1 3 None\n"
    result = CliRunner().invoke(sailing(), ["Amber", "--wind", "strong"])
    assert result.exit_code == 2
    assert "strong" in result.output


def test_a_group_stands_under_its_heading_and_the_command_keeps_its_own_sentence() -> None:
    text = said("--help")
    assert "Leave the harbour." in text
    assert "What the sky does" in text
    assert "Not part of the heading" not in text
    assert text.index("--crew") < text.index("What the sky does") < text.index("--wind")


def test_names_are_those_of_the_context() -> None:
    assert names_of(weather) == ("wind", "rain")


def test_an_option_that_two_declare_is_a_mistake_of_the_programmer() -> None:
    with pytest.raises(ValueError, match="duplicate parameter name: 'wind'"):
        takes(weather)(lambda ctx, wind: None)
    with pytest.raises(ValueError, match="duplicate parameter name: 'wind'"):
        takes(weather, weather)(lambda ctx: None)
