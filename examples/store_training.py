"""A store's own training loop, step by step, on people who do not exist.

    python examples/store_training.py FOLDER

FOLDER must not exist. What it shows: opening a registry, a notice, granting and refusing, faces captured
into the vault under each person's own key, the gate, private training that asks again before every
batch, a withdrawal in the middle, a ledger entry that is on the disk before the model is written, and an
erasure. `privemo simulate` does the same for a chain of stores.
"""

# ruff: noqa: T201 - an example talks to whoever runs it
from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import privemo
from privemo import weights as w
from privemo.capture import asked, capture, faces_of
from privemo.training import PrivateRecipe, Randomness, train_private
from privemo_consent import MinorRefused, Vault

DELTA = 1e-5
RUN, STORE = "example", "store-01"
CONTEXT = privemo.Context(setting=privemo.Setting.RETAIL, jurisdiction="IE")
CONTROLLER = privemo.Party(
    id="urn:example:shop",
    name="Example Shop",
    address="1 Example Street",
    contact="shop@example.org",
)
NOTICE = privemo.Notice.model_validate(
    {
        "notice_id": "training",
        "version": 1,
        "language": "en",
        "text": (
            "Example Shop would like to train a model that reads four expressions on pictures of your "
            "face. We do so only with your explicit consent. The pictures stay in this shop for 30 days "
            "and are then deleted. You may say no: you shop here just as before. You may take your yes "
            "back at any time: at the kiosk, in one step. You may see your pictures, have them put right, "
            "have them deleted, have their use put on hold, or take them with you. "
            "Ask shop@example.org, or complain to the Data Protection Commission."
        ),
        "controller": CONTROLLER,
        "purposes": ["training"],
        "jurisdictions": ["IE"],
        "recipients": "none",
        "storage_location": "in this shop",
        "retention_days": 30,
        "withdrawal_method": "at the kiosk, in one step",
        "representative": "none",
        "data_protection_officer": "none",
        "transfers": "none",
        "rights": ["access", "rectification", "erasure", "restriction", "portability"],
        "authority": privemo.Party(
            id="dpc",
            name="Data Protection Commission",
            address="6 Pembroke Row, Dublin",
            contact="https://www.dataprotection.ie",
            type="authority",
        ),
        "data_required": False,
        "refusal": "you shop here just as before",
        "automated_decisions": "none",
        # What the record holds as a code, and the words of the text that tell it.
        "told": {
            "training": "to train a model that reads four expressions",
            "lawful_basis": "only with your explicit consent",
            "access": "see your pictures",
            "rectification": "have them put right",
            "erasure": "have them deleted",
            "restriction": "have their use put on hold",
            "portability": "take them with you",
        },
    }
)


def ask_everyone(registry: privemo.ConsentRegistry, table: privemo.FaceTable) -> None:
    """Every tenth shopper says no, everyone else agrees; whoever is a minor is turned away."""
    people, first = np.unique(table.person, return_index=True)
    bands = table.column("age_band").astype(np.str_)[first]
    turned_away = 0
    for number, (person, band) in enumerate(zip(people.tolist(), bands.tolist(), strict=True)):
        asked = {
            "age_band": privemo.AgeBand(band),
            "jurisdiction": "IE",
            "notice": NOTICE.hash,
        }
        try:
            if number % 10 == 9:
                registry.refuse(person, [privemo.Purpose.TRAINING], **asked)
            else:
                registry.grant(
                    person, [privemo.Purpose.TRAINING], valid_for=timedelta(days=90), **asked
                )
        except MinorRefused:
            turned_away += 1  # the registry keeps a count, and so do we
    print(f"Asked {len(people)} people; turned {turned_away} minors away.")


def ask_again(
    registry: privemo.ConsentRegistry, gate: privemo.ConsentGate
) -> Callable[[int, NDArray[np.str_]], NDArray[np.bool_]]:
    """What training calls before each batch: who of those drawn may be used right now?"""

    def permitted_now(batch: int, drawn: NDArray[np.str_]) -> NDArray[np.bool_]:
        if batch == 1 and len(drawn):
            registry.withdraw(str(drawn[0]))
            print(f"Batch {batch}: one of {len(drawn)} drawn people has just withdrawn.")
        # Read before deciding: the entry then never claims to have seen more than was seen.
        log_seq = registry.log_seq
        permitted = gate.still_permitted(drawn, privemo.Purpose.TRAINING, CONTEXT)
        if permitted.any():
            registry.record_use(
                drawn[permitted],
                privemo.Purpose.TRAINING,
                run=RUN,
                round=1,
                store=STORE,
                batch=batch,
                log_seq=log_seq,
            )
        print(f"Batch {batch}: used {permitted.sum()} of {len(drawn)} drawn people.")
        return permitted

    return permitted_now


def make_recipe(*, declared_people: int, epsilon: float) -> PrivateRecipe:
    """Noise for the budget; everything in it is public, the declared number of people too."""
    rate, steps = 0.25, 3
    noise = privemo.calibrate_noise(epsilon=epsilon, delta=DELTA, sample_rate=rate, steps=steps)
    return PrivateRecipe(
        noise_multiplier=noise,
        sample_rate=rate,
        steps=steps,
        max_grad_norm=1.0,
        normaliser=rate * declared_people,
        lr=0.1,
        momentum=0.9,
    )


def release(folder: Path, model: torch.nn.Module, recipe: PrivateRecipe) -> float:
    """Write what was spent, then the model: a crash in between can only over-count."""
    spent = privemo.spent(
        [privemo.Mechanism(recipe.noise_multiplier, recipe.sample_rate, recipe.steps)], delta=DELTA
    )
    data = w.to_bytes(w.from_model(model))
    privemo.Ledger(folder / "ledger.jsonl").append(
        store=STORE,
        run_id=RUN,
        round=1,
        noise_multiplier=recipe.noise_multiplier,
        sample_rate=recipe.sample_rate,
        steps=recipe.steps,
        max_grad_norm=recipe.max_grad_norm,
        normaliser=recipe.normaliser,
        delta=DELTA,
        epsilon_rdp=spent.rdp,
        epsilon_prv=spent.prv,
        update_sha256=sha256(data).hexdigest(),
    )
    (folder / "model.safetensors").write_bytes(data)
    return spent.rdp


def main(folder: Path) -> None:
    """Run the example in a new folder."""
    folder.mkdir(parents=True)
    privemo.synthesize(60, 3, seed=1).save(folder / "people.npz")
    table = privemo.load_faces(folder / "people.npz")  # who and which label, but no pixels
    with privemo.ConsentRegistry.create(
        folder / "consent.sqlite", mode="simulation", controller=CONTROLLER
    ) as registry:
        registry.notice(NOTICE)
        ask_everyone(registry, table)
        gate, vault = privemo.ConsentGate(registry), Vault(registry)
        # Of who agreed the face is taken; of who did not, no pixel. From here on the table is of no use.
        rows = np.arange(len(table))
        away = capture(registry, table, rows, part="train", context=CONTEXT)
        admitted = gate.admit(asked(vault, "train", away), privemo.Purpose.TRAINING, CONTEXT)
        counts = admitted.counts
        reasons = ", ".join(f"{reason} {n}" for reason, n in counts.refused_faces.items())
        print(
            f"Admitted {counts.admitted_faces} of {counts.asked_faces} faces; refused: {reasons}."
        )
        recipe = make_recipe(declared_people=40, epsilon=8.0)
        model = privemo.build_model(channels=table.channels)
        # No seed: who is drawn, and the noise, come from the operating system.
        randomness = Randomness(np.random.default_rng(), privemo.GaussianNoise())
        faces = faces_of(admitted.faces)
        train_private(model, faces, recipe, randomness, ask_again(registry, gate))
        epsilon = release(folder, model, recipe)
        erased = registry.erase(
            str(faces.person[0])
        )  # their key is gone: no copy of the vault opens
        print(f"Erased one person with {erased.items} faces; every proof of the log still holds.")
        registry.verify()
    print(f"Nobody lost more than epsilon {epsilon:.2f} at delta {DELTA:g}. See {folder}.")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python examples/store_training.py FOLDER")
    if Path(sys.argv[1]).exists():
        sys.exit(f"{sys.argv[1]} exists: name a folder that does not.")
    main(Path(sys.argv[1]))
