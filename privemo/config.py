"""Validated, frozen settings of a run. What is written here is public; nothing is learned from faces."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from privemo.countterms import CountTerms
from privemo.errors import SettingsError
from privemo.orders import (
    MOST_AT_ONCE,
    MOST_ZOOM,
    ZOOM,
    AugmentName,
    NoiseName,
    PersonalName,
    Precision,
)

FEWEST_TO_SHARE, MOST_TO_SHARE = 3, 200
"""Stores that may share noise. Of two each would know the other's part of a sum; and each exchanges secrets
with each other one, so that the work of all together grows with the square of their number."""

ServerOptimizerName = Literal["sgd", "adam", "yogi"]

AggregationName = Literal["mean", "trimmed_mean", "median", "krum"]

__all__ = [
    "AggregationName",
    "FrozenSettings",
    "PlainSettings",
    "PrivacySettings",
    "RunSettings",
    "ServerOptimizerName",
]


class FrozenSettings(BaseModel):
    """Base of all settings: immutable, closed to unknown names, finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Build, or raise a `SettingsError` that names each bad setting in one line.

        Raises:
            SettingsError: a value is missing or out of range.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']} (got {e['input']!r})"
                if e["loc"]
                else e["msg"].removeprefix("Value error, ")
                for e in error.errors()
            )
            raise SettingsError(f"Settings refused: {problems}.") from error


class PrivacySettings(FrozenSettings):
    """The promise made to each person, and how it is kept.

    Attributes:
        epsilon: most that any person may lose over the whole run, all rounds and stores together.
        delta: probability with which the bound may fail.
        accountant: which bound is held against `epsilon`; the other is reported beside it.
        sample_rate: probability with which a person joins a batch (Poisson sampling).
        max_grad_norm: clipping norm of one person's gradient.
        max_stores_per_person: in how many stores one person may take part; noise is raised for it, and each
            store spends its share. Not with distributed noise.
        rate_growth: the last rounds' sample rate over the first ones', in up to four equal stages;
            `sample_rate` is that of the last. The noise multiplier is the same all along.
        optimizer: of a store's steps within a round.
        views: augmented copies of each drawn image, averaged before the clip; free of privacy.
        images_per_person: most images of one person in a step, drawn anew each time.
        augment: how the copies are changed; see `privemo.training.AUGMENTATIONS`.
        precision: of the forward pass and of the gradients that flow back.
        noise: who adds it. `local`: each store all of it by itself, so that what it sends is private as it
            is. `distributed`: each store a share; the server learns the sum of all stores alone, by secure
            aggregation, and the sum is private. It takes as little noise as one place would.
        may_drop: with distributed noise, the share of stores without whom a round still counts; the others
            add so much more noise. Below one half.
        spare_rounds: rounds that the budget holds beyond those of the run. With distributed noise a round
            that breaks off after stores trained is paid for twice.
    """

    epsilon: float = Field(8.0, gt=0)
    delta: float = Field(1e-5, gt=0, lt=1)
    accountant: Literal["rdp", "prv"] = "rdp"
    sample_rate: float = Field(0.25, gt=0, le=1)
    max_grad_norm: float = Field(1.0, gt=0)
    max_stores_per_person: int = Field(1, ge=1)
    rate_growth: float = Field(1.0, ge=1, le=100)
    optimizer: Literal["sgd", "adam"] = "sgd"
    views: int = Field(1, ge=1, le=64)
    images_per_person: int = Field(4, ge=1, le=512)
    augment: AugmentName = "mild"
    precision: Precision = "float32"
    noise: NoiseName = "local"
    may_drop: float = Field(0.0, ge=0, lt=0.5)
    spare_rounds: int = Field(0, ge=0, le=1000)

    @model_serializer(mode="wrap")
    def _shared_noise_only_where_it_is(
        self, handler: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        """A run's name, and a seeded run's draws, follow from its settings as they are written."""
        written: dict[str, Any] = handler(self)
        if self.noise == "local":
            del written["noise"], written["may_drop"]
        if not self.spare_rounds:
            del written["spare_rounds"]
        return written

    @model_validator(mode="after")
    def _only_shared_noise_drops(self) -> Self:
        if self.may_drop and self.noise != "distributed":
            raise ValueError("may_drop is for distributed noise: local noise needs no other store")
        return self

    @model_validator(mode="after")
    def _a_person_fits_into_memory(self) -> Self:
        rows = self.views * self.images_per_person
        if rows > MOST_AT_ONCE:
            raise ValueError(f"views x images_per_person is {rows}: take {MOST_AT_ONCE} at most")
        return self


class PlainSettings(FrozenSettings):
    """Training without privacy, for people who do not exist and for comparison.

    The fields are those of `privemo.orders.PlainRecipe`, where each is described.
    """

    epochs: int = Field(5, ge=1, description="passes over the data in each round")
    batch: int = Field(64, ge=1)
    weight_decay: float = Field(0.01, ge=0)
    optimizer: Literal["adamw", "sgd"] = "adamw"
    label_smoothing: float = Field(0.05, ge=0, le=0.9)
    mixup: float = Field(0.0, ge=0, le=100)
    ema: float = Field(0.0, ge=0, le=0.99999)
    augment: AugmentName = "strong"
    precision: Precision = "float32"
    teachers: int = Field(0, ge=0, le=10)

    @model_serializer(mode="wrap")
    def _teachers_only_where_they_are(
        self, handler: SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        """A run without teachers keeps the name, and the draws, that it had before there were any."""
        written: dict[str, Any] = handler(self)
        if not self.teachers:
            del written["teachers"]
        return written


_ONLY_WHERE_CHOSEN = (
    *("proximal", "aggregation", "malicious_stores", "quorum", "participation"),
    *("label_skew", "size_skew", "skew_column", "camera_skew", "personal", "counts", "zoom"),
)


class RunSettings(FrozenSettings):
    """Everything that defines a run.

    Attributes:
        stores: number of stores; 1 trains centrally.
        rounds: rounds of the federation.
        steps_per_round: private steps that a store takes in a round.
        declared_people: public, rounded number of people that each store expects to admit for
            training. The batch normaliser and the averaging weights come from it, never from the true
            number, which is private. Taken from the size of the table when omitted.
        lr: learning rate of a store; by default the one that `privemo.recipes` derives.
        lr_schedule: `constant`, or `cosine`: falling over the rounds to a hundredth.
        momentum: of a store's steps within a round (of Adam the decay of its first moment); by default 0.9,
            and 0 where the server has momentum of its own.
        proximal: how hard a store's steps are pulled back to the model that the round began with: mu of
            FedProx (Li et al. 2020, arXiv 1812.06127). After the noise: it costs no privacy.
        personal: layers that stay in their store and are trained by its people alone: the `head`, or the
            `norm`alisation (`privemo.personal`); `none` shares all. The same epsilon covers them.
        aggregation: what becomes of the stores' updates: their `mean`, or one that some poisoned stores
            cannot drag away: `trimmed_mean` or `median` of each parameter (Yin et al. 2018, arXiv
            1803.01498), or `krum`, the mean of those that lie closest to each other (Blanchard et al. 2017,
            arXiv 1703.02757). For updates that the server sees: not with distributed noise.
        malicious_stores: how many stores of a round may be poisoned without `aggregation` giving way.
        quorum: fewest stores that have to train for a round to count.
        participation: share of the stores that are asked in a round, drawn anew for each. What a store spends
            is what it took part in; noise is planned as if it were asked every time.
        label_skew: how much the stores of a simulation differ in whom they see: the concentration of the
            Dirichlet distribution that each emotion is shared out by. None shares alike.
        size_skew: likewise for how many people a store has.
        skew_column: let `label_skew` share out the groups of this column of the table, say a region or a
            culture, instead of the emotions.
        camera_skew: how much the cameras and the light of a simulation's stores differ; 1 is a lot.
        server_optimizer: what takes the average update of a round: `sgd` (FedAvg; FedAvgM with
            `server_momentum`), `adam` (FedAdam) or `yogi` (FedYogi; Reddi et al. 2021, arXiv 2003.00295). Its
            state outlives the rounds. Post-processing: it costs no privacy.
        server_lr: step of the server: by default 1 for `sgd`, which is plain averaging, and 0.001 for the
            others.
        server_momentum: of the server. With one store and one step to a round, `sgd` is central DP-SGD with
            momentum.
        ema: decay of the moving average of the rounds' models, which becomes the finished model; 0 for the
            last round's model.
        flip: predictions average each face with its mirror image.
        zoom: and with itself so much closer and further; see `privemo.training.predict`.
        seed: fixes split, partition, sampling *and noise*, for a run that can be repeated. Whoever
            knows the seed can take the noise off, so such a model must not be released. Without a
            seed, sampling and noise come from the operating system.
        init: `nobody` (weights trained on people who do not exist), `scratch`, or a safetensors file.
        consents: how simulated shoppers answer: a realistic mix, or every adult agrees.
        challenge_age: a person whose *estimated* age is below this is refused.
        counts: what stores agree to have counted of the people measured. With it stores measure, and are
            asked for counts, as soon as the last round is whole (`privemo.measuring`).
    """

    stores: int = Field(3, ge=1, le=10_000)
    rounds: int = Field(3, ge=1)
    steps_per_round: int = Field(6, ge=1)
    privacy: PrivacySettings | None = PrivacySettings()
    plain: PlainSettings | None = None
    lr: float | None = Field(None, gt=0)
    lr_schedule: Literal["constant", "cosine"] = "constant"
    momentum: float | None = Field(None, ge=0, lt=1)
    proximal: float = Field(0.0, ge=0, le=100)
    personal: PersonalName = "none"
    aggregation: AggregationName = "mean"
    malicious_stores: int = Field(0, ge=0)
    quorum: int = Field(1, ge=1)
    participation: float = Field(1.0, gt=0, le=1)
    label_skew: float | None = Field(None, gt=0, le=1e6)
    size_skew: float | None = Field(None, gt=0, le=1e6)
    skew_column: str | None = None
    camera_skew: float = Field(0.0, ge=0, le=10)
    server_optimizer: ServerOptimizerName = "sgd"
    server_lr: float | None = Field(None, gt=0)
    server_momentum: float = Field(0.0, ge=0, lt=1)
    ema: float = Field(0.0, ge=0, lt=1)
    flip: bool = True
    zoom: float = Field(ZOOM, ge=0, le=MOST_ZOOM)
    test_fraction: float = Field(0.2, gt=0, lt=1)
    declared_people: int | None = Field(None, ge=1)
    seed: int | None = Field(None, ge=0, lt=2**53)
    split_seed: int | None = Field(None, ge=0, lt=2**53)
    init: str = "nobody"
    model: str = "emotion-cnn"
    sensitive: tuple[str, ...] = ()
    counts: CountTerms | None = None
    consents: Literal["realistic", "everyone"] = "realistic"
    challenge_age: float = Field(25.0, ge=18, le=120)
    jurisdiction: str = Field("IE", pattern="^[A-Z]{2}$")
    threads: int | None = Field(None, ge=1)

    @model_serializer(mode="wrap")
    def _only_what_was_chosen(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A run's name, and a seeded run's draws, follow from its settings as they are written."""
        written: dict[str, Any] = handler(self)
        for name in _ONLY_WHERE_CHOSEN:
            if written[name] == type(self).model_fields[name].default:
                del written[name]
        return written

    @model_validator(mode="after")
    def _enough_stores_are_honest(self) -> Self:
        bad, asked = self.malicious_stores, self.stores_a_round
        if (self.aggregation == "mean") != (bad == 0):
            raise ValueError(
                "One poisoned store moves a mean as it likes: set malicious_stores together with aggregation "
                "trimmed_mean, median or krum"
            )
        needed = 2 * bad + (3 if self.aggregation == "krum" else 1)
        if bad and asked < needed:
            raise ValueError(
                f"malicious_stores {bad} takes {needed} stores or more in a round with {self.aggregation}, "
                f"and {asked} are asked"
            )
        if self.quorum > asked:
            raise ValueError(f"quorum is {self.quorum}, and {asked} stores are asked in a round")
        return self

    @model_validator(mode="after")
    def _a_column_is_skewed_by_something(self) -> Self:
        if self.skew_column is not None and self.label_skew is None:
            raise ValueError("skew_column says of what, label_skew how much: set label_skew too")
        return self

    @model_validator(mode="after")
    def _layers_of_its_own_are_for_chains(self) -> Self:
        if self.personal != "none" and self.stores == 1:
            raise ValueError("A single store shares nothing anyway: leave out personal")
        return self

    @model_validator(mode="after")
    def _counts_are_of_what_is_known(self) -> Self:
        if self.counts is None:
            return self
        unknown = [feature for feature, _ in self.counts.groups if feature not in self.sensitive]
        if unknown:
            raise ValueError(f"counts by {unknown[0]!r}: name it among the sensitive columns too")
        if self.privacy is None:
            raise ValueError("Counts are charged to a budget, and a run without privacy has none")
        if self.counts.epsilon is None and self.privacy.noise != "distributed":
            raise ValueError(
                "Exact counts leave as a secure sum alone: take distributed noise, or an epsilon for counts"
            )
        return self

    @model_validator(mode="after")
    def _one_kind_of_training(self) -> Self:
        if (self.privacy is None) == (self.plain is None):
            raise ValueError("A run is either private or plain: give exactly one of the two")
        return self

    @model_validator(mode="after")
    def _shared_noise_protects_sums(self) -> Self:
        if self.privacy is None or self.privacy.noise == "local":
            return self
        if not FEWEST_TO_SHARE <= self.stores <= MOST_TO_SHARE:
            raise ValueError(
                f"Distributed noise takes {FEWEST_TO_SHARE} to {MOST_TO_SHARE} stores, not {self.stores}"
            )
        if self.personal != "none":
            raise ValueError(
                "With distributed noise what a store would keep to itself had only its share of the noise: "
                "leave out personal, or let each store add its own noise"
            )
        if self.aggregation != "mean" or self.quorum != 1 or self.participation != 1:
            raise ValueError(
                "With distributed noise the server sees the sum alone, of the stores that agreed to it: "
                "leave out aggregation, quorum and participation, and set may_drop"
            )
        if self.steps_per_round != 1:
            raise ValueError(
                "Distributed noise takes one step to a round, for the sum over the stores alone is private, "
                "not what each of them does in between: set steps_per_round to 1"
            )
        if self.privacy.max_stores_per_person != 1:
            raise ValueError(
                "With distributed noise a person is in one store: in several they would move one and the "
                "same sum several times, which costs more than several sums: take local noise"
            )
        if self.privacy.optimizer != "sgd":
            raise ValueError(
                "Stores that share the noise step by sgd; adam can be had on the server: set server_optimizer"
            )
        return self

    @property
    def stores_a_round(self) -> int:
        """How many stores are asked in a round."""
        return max(1, round(self.participation * self.stores))

    @property
    def adaptive_server(self) -> bool:
        """Whether the server's optimizer measures its own steps."""
        return self.server_optimizer != "sgd"

    @property
    def total_steps(self) -> int:
        """Private steps of one store over the whole run."""
        return self.rounds * self.steps_per_round

    @property
    def seed_of_split(self) -> int | None:
        """By which people are held out: `split_seed`, or `seed` when omitted; None leaves it to chance."""
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def server_step(self) -> float:
        """`server_lr`, or what it is when omitted."""
        if self.server_lr is not None:
            return self.server_lr
        return 1e-3 if self.adaptive_server else 1.0

    @property
    def local_momentum(self) -> float:
        """`momentum`, or what it is when omitted."""
        if self.momentum is not None:
            return self.momentum
        return 0.0 if self.server_momentum or self.adaptive_server else 0.9

    def public_people(self, people_in_table: int) -> int:
        """`declared_people`, or a round number from the size of the table.

        Half of a store's share of the table, to two significant digits: after the held-out part
        and the refusals that is about what a store admits, and it is not the true number.
        """
        if self.declared_people is not None:
            return self.declared_people
        share = max(1.0, 0.5 * people_in_table / self.stores)
        unit = 10 ** max(0, math.floor(math.log10(share)) - 1)
        return max(1, int(share // unit) * int(unit))
