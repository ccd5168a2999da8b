"""A federation as it is deployed, but in one process: a server's folder, and stores that joined it."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from privemo import weights as w
from privemo.asked import ASKED_FILE
from privemo.client_app import app as client_app
from privemo.config import PrivacySettings, RunSettings
from privemo.counting import permitted_now
from privemo.countterms import CountTerms
from privemo.federation.identity import enroll
from privemo.federation.invitation import Invitation, join
from privemo.federation.server import init_federation
from privemo.flower import Context, Message
from privemo.grid import InProcessGrid
from privemo.labels import EMOTIONS
from privemo.runs import Run
from privemo.server_app import app as server_app
from privemo.store import Store
from privemo.storeconfig import KEY_FILE
from privemo.training.predicting import to_input
from privemo_audits.cells import measure_groups
from privemo_audits.counts import one_face_each
from privemo_audits.fairness import measure_performance
from privemo_audits.joined import JoinedAudit
from privemo_audits.predictions import read_store, validate
from tests.conftest import noise_faces
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
        faces: of these people, as columns of a table; noise by default.
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
        faces: dict[str, np.ndarray] | None = None,
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
        machines = small_run(folder, people=people, faces=faces, **settings)
        self.stores, self.names = machines.folder / "stores", machines.stores
        for name in self.names:
            (self.stores / name / KEY_FILE).unlink()
            (self.stores / name / ASKED_FILE).unlink()  # of the simulation that they are taken from
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

    def copy(self, folder: Path) -> Federated:
        """The same elsewhere."""
        shutil.copytree(self.chain, folder / "chain")
        shutil.copytree(self.stores, folder / "stores")
        other = copy.copy(self)
        other.chain, other.stores = folder / "chain", folder / "stores"
        return other

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


def without(*names: str, kinds: tuple[str, ...]) -> App:
    """Stores of which some are not there for messages of some kinds, such as `query.measure`."""

    def app(message: Message, context: Context) -> Message:
        here = Path(str(context.node_config["store-dir"])).name in names
        if here and message.metadata.message_type in kinds:
            raise ConnectionError("no such store")
        return client_app(message, context)

    return app


def half_trained(path: Path) -> Path:
    """Weights that name several emotions, rightly and wrongly: counts of one cell alone say little."""
    faces = noise_faces(30, seed=3)
    scratch, _ = w.initial_weights("scratch", model="gray-cnn", channels=1, seed=0)
    network = w.model_for("gray-cnn", scratch)
    images = to_input(torch.from_numpy(faces["images"]))
    labels = torch.from_numpy(faces["label"].astype("int64"))
    network.train()
    step = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(5):
        step.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        step.step()
    w.save_weights(path, w.from_model(network))
    return path


def pooled(stores: Sequence[Store], name: str | None = None) -> JoinedAudit:
    """What an audit says of all stores' faces in one table, which in truth nobody has.

    But for calibration: that takes probabilities, and these are in no count.

    Args:
        stores: they.
        name: that the table has for all of them together, as a sum has; their own by default.
    """
    frames = []
    for store in stores:
        path, config = store.folder / "predictions.csv", store.config
        frame = read_store(path, config.name, config.sensitive, name=path.name)
        assert frame is not None
        frame = one_face_each(validate(frame, EMOTIONS, path.name, alone=False), config.run_id)
        frames.append(frame[permitted_now(store, frame["person"])])
    table = pd.concat(frames, ignore_index=True)
    if name is not None:
        table = table.assign(store=name)
    table = table.drop(columns=[c for c in table if str(c).startswith("p_")])
    cells, gaps, _ = measure_groups(table, stores[0].config.sensitive, EMOTIONS)
    return JoinedAudit(
        run_id=stores[0].config.run_id,
        stores=tuple(s.config.name for s in stores) if name is None else (name,),
        performance=measure_performance(table, EMOTIONS),
        groups=tuple(cells),
        gaps=tuple(gaps),
    )
