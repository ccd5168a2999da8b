"""A federation as it is deployed, but in one process: a server's folder, and stores that joined it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from privemo.client_app import app as client_app
from privemo.config import PrivacySettings, RunSettings
from privemo.countterms import CountTerms
from privemo.federation.identity import enroll
from privemo.federation.invitation import Invitation, join
from privemo.federation.server import init_federation
from privemo.flower import Context, Message
from privemo.grid import InProcessGrid
from privemo.runs import Run
from privemo.server_app import app as server_app
from privemo.store import Store
from privemo.storeconfig import KEY_FILE
from tests.support.counted import BANDS
from tests.support.small_runs import small_run

App = Callable[[Message, Context], Message]

TERMS = CountTerms(groups=(("age_band", BANDS),), epsilon=2.0)
EXACT = TERMS.model_copy(update={"epsilon": None})


class Federated:
    """Three stores of simulated people, and a chain that they joined.

    Args:
        folder: for all of it.
        terms: of the counts; None for none.
        shared: whether stores share the noise.
        people: of all stores together.
        less: by store the epsilon for counts that it agreed to, where it is less.
        changes: of the settings.
    """

    def __init__(
        self,
        folder: Path,
        terms: CountTerms | None,
        *,
        shared: bool = True,
        people: int = 180,
        less: Mapping[str, float] | None = None,
        **changes: Any,
    ) -> None:
        noise = {"noise": "distributed", "may_drop": 0.4} if shared else {}
        settings: dict[str, Any] = {
            "stores": 3,
            "rounds": 1,
            "steps_per_round": 1,
            "model": "gray-cnn",
            "privacy": PrivacySettings(epsilon=8.0, sample_rate=0.5, **noise),
            "test_fraction": 0.5,
            "consents": "everyone",
        }
        machines = small_run(folder, people=people, **settings)
        self.stores, self.names = machines.folder / "stores", machines.stores
        for name in self.names:
            (self.stores / name / KEY_FILE).unlink()
        cards = [enroll(self.stores / name, name) for name in self.names]
        drawn_up = RunSettings.of(
            **{
                **settings,
                "declared_people": 10,
                "init": "scratch",
                "seed": 5,
                "threads": 1,
                "sensitive": ("age_band",),
                "counts": terms,
                **changes,
            }
        )
        self.chain = folder / "chain"
        init_federation(self.chain, cards, drawn_up, hosts=["127.0.0.1"])
        for name in self.names:
            invitation = Invitation.read(self.chain / "invitations" / f"{name}.json")
            join(self.stores / name, invitation, count_epsilon=(less or {}).get(name))

    @property
    def run(self) -> Run:
        return Run(self.chain)

    def drive(self, app: App = client_app) -> InProcessGrid:
        """What is missing, with stores that run `app`; the grid says what went wrong in them."""
        grid = InProcessGrid(
            app,  # type: ignore[arg-type]
            [{"store-dir": str(self.stores / name)} for name in self.names],
        )
        grid.serve(server_app, run_dir=str(self.chain))
        return grid

    def store(self, name: str) -> Store:
        return Store(self.stores / name)


def without(name: str, *kinds: str) -> App:
    """Stores of which one is not there for messages of some kinds, such as `query.measure`."""

    def app(message: Message, context: Context) -> Message:
        here = Path(str(context.node_config["store-dir"])).name == name
        if here and message.metadata.message_type in kinds:
            raise ConnectionError("no such store")
        return client_app(message, context)

    return app
