"""The `privemo` command.

Exit codes: 0 done; 1 the answer is no (an audit failed, a log or a signed report was changed, a decision
refuses, a notice is not fit, an erasure has places left to reach, a benchmark missed its goal under
`--strict`); 2 the input, the settings or the machine do not allow it, said in one sentence.
"""

from __future__ import annotations

import errno
import sys
from importlib import metadata
from typing import Annotated

import typer
from click import ClickException
from click.exceptions import Abort, Exit

from privemo.cli import (
    attack,
    audit,
    bench,
    capturing,
    copies,
    excluded,
    explain,
    export,
    federation,
    inspect,
    keys,
    kiosk,
    log,
    make,
    notice,
    plan,
    recommend,
    train,
    watch,
)
from privemo.cli.common import complain, no_passwords, out
from privemo.cli.options import as_options
from privemo.errors import PrivemoError, RunInterrupted, SettingsError
from privemo.machine import quiet_environment
from privemo_consent import ConsentError
from privemo_consent.errors import PlacesPendingError

__all__ = ["app", "main"]


def _say_version(asked: bool) -> None:
    if asked:
        out.print(f"privemo {metadata.version('privemo')}", highlight=False)
        raise typer.Exit


app = typer.Typer(
    name="privemo",
    help="Emotion-aware stores without watching anyone who did not agree.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.callback()
def _everywhere(
    version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_say_version, help="Print the version."),
    ] = False,
) -> None:
    """Emotion-aware stores without watching anyone who did not agree."""


_HERE = "Start here"
app.command(rich_help_panel=_HERE)(train.demo)
app.command(rich_help_panel=_HERE)(make.synth)

_TRAINING = "Train"
app.command(rich_help_panel=_TRAINING)(plan.plan)
app.command(rich_help_panel=_TRAINING)(train.simulate)
app.command(rich_help_panel=_TRAINING)(train.train)
app.add_typer(capturing.app, name="capture", rich_help_panel=_TRAINING)
app.add_typer(federation.app, name="federation", rich_help_panel=_TRAINING)
app.command(rich_help_panel=_TRAINING)(watch.watch)
app.command(rich_help_panel=_TRAINING)(plan.budget)

_ASKING = "Question what was trained"
app.add_typer(audit.app, name="audit", rich_help_panel=_ASKING)
app.command(rich_help_panel=_ASKING)(inspect.evaluate)
app.command(rich_help_panel=_ASKING)(attack.attack)
app.command(rich_help_panel=_ASKING)(excluded.excluded)
app.add_typer(explain.app, name="explain", rich_help_panel=_ASKING)

_STORE = "Use it in a store"
app.command(rich_help_panel=_STORE)(export.export)
app.command(rich_help_panel=_STORE)(export.card)
app.add_typer(recommend.app, name="recommend", rich_help_panel=_STORE)

_CONSENT = "Ask people, and keep what they said"
app.add_typer(copies.registry_app, name="registry", rich_help_panel=_CONSENT)
app.add_typer(notice.app, name="notice", rich_help_panel=_CONSENT)
app.add_typer(copies.consent_app, name="consent", rich_help_panel=_CONSENT)
app.command(rich_help_panel=_CONSENT)(kiosk.kiosk)
app.command(name="kiosk-password", rich_help_panel=_CONSENT)(kiosk.kiosk_password)
app.add_typer(log.app, name="log", rich_help_panel=_CONSENT)
app.add_typer(keys.app, name="keys", rich_help_panel=_CONSENT)

app.add_typer(bench.app, name="bench", rich_help_panel="Measure this machine")

_OURS = ("privemo", "privemo_audits", "privemo_consent")
_EXTRAS = {
    "torch": "train",
    "flwr": "train",
    "opacus": "train",
    "embreex": "synth",
    "captum": "explain",
    "onnx": "export",
    "onnxruntime": "edge",
    "cv2": "edge",
    "keyring": "keyring",
    "psycopg": "postgres",
    "py3langid": "notices",
    "python_multipart": "kiosk",
    "starlette": "kiosk",
    "uvicorn": "kiosk",
    "prometheus_client": "watch",
    "tensorboardX": "watch",
    "vowpalwabbit": "recommend",
}


def main() -> None:
    """Run the command line; every expected failure is one sentence and exit code 2."""
    quiet_environment()
    try:
        code = app(standalone_mode=False)
    except Exit as done:
        code = done.exit_code
    except ClickException as usage:
        usage.message = no_passwords(usage.message)
        usage.show()
        code = 2
    except (Abort, KeyboardInterrupt):
        complain("Stopped before anything was written.")
        code = 2
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        complain(sentence)
        # Done here, and not yet in every place: the answer to "is it gone?" is no.
        code = 1 if isinstance(error, PlacesPendingError) else 2
    sys.exit(code or 0)


def _sentence(error: Exception) -> str | None:
    """What to tell a person, or None for a mistake of ours, which keeps its traceback."""
    if isinstance(error, SettingsError):
        return as_options(str(error))
    if isinstance(error, RunInterrupted | PrivemoError | ConsentError):
        return str(error)
    if type(error).__module__.partition(".")[0] == "privemo_audits":
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        if str(error.name).partition(".")[0] in _OURS:
            return None  # no package brings it: it should be here
        extra = _EXTRAS.get(str(error.name))
        if extra is None:
            return f"{error}; pip install {error.name} brings it."
        return f"{error.name} is not installed: pip install 'privemo[{extra}]'"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS):
        where = f" at {error.filename}" if error.filename else ""
        if error.errno == errno.EACCES:  # also of what was only to be read
            return f"Permission denied{where}: mend its rights, or name another place."
        space = "Free some space or choose" if error.errno == errno.ENOSPC else "Choose"
        return f"Writing failed{where} ({error.strerror}). {space} another folder."
    return None
