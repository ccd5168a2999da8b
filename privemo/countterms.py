"""What the stores of a run agree to have counted of the people measured, before anybody is measured.

The terms are public: they stand in the run's settings and in every invitation, and each store keeps its own
copy in `store.json`, where it may have agreed to less. A request that comes later is held against that copy.

| what a request asks for | what the store does |
|---|---|
| another run, other groups, a column that nobody named | refuses |
| more epsilon than agreed, or exact counts where noised ones were agreed to | refuses |
| fewer columns, or less epsilon | counts |
| noised counts once more after as many releases as agreed | refuses; what was sent before it sends again |
| exact counts a second time, or of fewer than 10 people in this store | refuses |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from privemo.errors import BudgetExhausted, SettingsError
from privemo.labels import EMOTIONS

if TYPE_CHECKING:  # settings are read where nobody counts
    from privemo.countrequest import CountRequest
    from privemo.releases import Release
    from privemo_audits.cellplan import CellPlan

__all__ = ["CountTerms"]


class CountTerms(BaseModel):
    """The most that may be counted, and what it may cost.

    Attributes:
        groups: by sensitive column the groups that were named, in order: they make the cells.
        epsilon: most that one release may cost each person counted; None for exact counts, which leave as a
            secure sum of all stores alone.
        releases: most noised releases of a store: one, and another where a sum breaks off after stores sent
            their numbers. Exact counts leave once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    groups: tuple[tuple[str, tuple[str, ...]], ...] = ()
    epsilon: float | None = Field(None, gt=0, le=1000)
    releases: int = Field(2, ge=1, le=100)

    @classmethod
    def of(
        cls,
        *,
        groups: tuple[tuple[str, tuple[str, ...]], ...],
        epsilon: float | None,
        releases: int,
    ) -> CountTerms:
        """Build, or say what is out of range.

        Raises:
            SettingsError: a value is.
        """
        try:
            return cls(groups=groups, epsilon=epsilon, releases=releases)
        except ValidationError as error:
            first = error.errors()[0]
            raise SettingsError(
                f"Counts refused: {first['loc'][0]}: {first['msg']} (got {first['input']!r})."
            ) from error

    @property
    def plan(self) -> CellPlan:
        """The cells.

        Raises:
            SettingsError: they are none that anybody could count.
        """
        from privemo_audits.cellplan import CellPlan
        from privemo_audits.errors import PolicyError

        try:
            return CellPlan(EMOTIONS, self.groups)
        except PolicyError as error:
            raise SettingsError(f"These cells cannot be counted: {error}") from error

    def request(self, run_id: str, delta: float) -> CountRequest:
        """All that was agreed on, as a request.

        Raises:
            SettingsError: see `plan`.
        """
        from privemo.countrequest import CountRequest

        return CountRequest(run_id, self.plan, self.epsilon, delta)

    def less(self, epsilon: float) -> CountTerms | None:
        """The same terms where a store agrees to no more epsilon than so much; None for no counts at all.

        Raises:
            SettingsError: it is more than the terms say, or no number.
        """
        if epsilon == 0:
            return None
        if not epsilon > 0 or (self.epsilon is not None and epsilon > self.epsilon):
            most = "nothing is noised" if self.epsilon is None else f"{self.epsilon:g} is asked for"
            raise SettingsError(
                f"A store may agree to less epsilon for counts than it is asked for, and {most}: {epsilon:g} "
                "is not less. 0 agrees to no counts."
            )
        return self.model_copy(update={"epsilon": epsilon})

    def check(self, request: CountRequest) -> None:
        """Let a request pass that asks for no more than this.

        Raises:
            SettingsError: it asks for more, or for something else.
        """
        more = [
            feature for feature, names in request.plan.groups if (feature, names) not in self.groups
        ]
        if more or request.plan.label_names != EMOTIONS:
            raise SettingsError(
                f"Counts by {', '.join(map(repr, more)) or 'other emotions'} were not agreed on, or not over "
                "these groups."
            )
        if self.epsilon is None and request.epsilon is not None:
            raise SettingsError("Exact counts were agreed on, and noised ones are asked for.")
        if self.epsilon is not None and (request.epsilon is None or request.epsilon > self.epsilon):
            asked = "none" if request.epsilon is None else f"noise for {request.epsilon:g}"
            raise SettingsError(
                f"Counts with noise for an epsilon of {self.epsilon:g} at most were agreed on, and {asked} "
                "is asked for."
            )

    def check_cost(
        self,
        *,
        epsilon: float,
        delta: float,
        accountant: str,
        past: Sequence[Release] = (),
        times: int = 1,
    ) -> None:
        """Let terms pass that the budget of a run holds, all releases together.

        Args:
            epsilon: of the budget.
            delta: of the budget.
            accountant: of the budget.
            past: what people lost before the run, whoever is measured.
            times: in how many stores a person may be.

        Raises:
            BudgetExhausted: it does not.
            SettingsError: see `plan`.
        """
        from privemo.dp import composed

        noise = self.request("any", delta).noise(1, accountant)
        if noise is None:
            return
        due = [noise.mechanism.times(times)] * self.releases
        cost = composed([*past, *due], delta=delta, accountant=accountant)
        if not cost <= epsilon:
            raise BudgetExhausted(
                f"{self.releases} release(s) of counts at an epsilon of {self.epsilon:g} cost each person "
                f"measured {cost:.3f}, over the budget of {epsilon:g}: take a smaller epsilon for counts, or "
                "fewer releases."
            )
