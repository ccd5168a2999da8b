"""Epsilon by four accountants of two libraries that share no code."""

from __future__ import annotations

import math
from collections.abc import Sequence

from privemo.dp.accounting import spent
from privemo.releases import Release, merged

__all__ = ["four_bounds"]


def four_bounds(history: Sequence[Release], *, delta: float) -> dict[str, float | None]:
    """Epsilon of everything in `history` together.

    Returns:
        `rdp` and `prv` of Opacus, `dp_rdp` and `pld` of dp-accounting (None where not installed). Where some
        of the noise is discrete, all four are RDP at whole orders: no more is proved of its sum.

    Raises:
        SettingsError: `delta` is not between 0 and 1.
    """
    from privemo_audits.accounting import Release as Audited
    from privemo_audits.accounting import epsilon_dp_accounting
    from privemo_audits.errors import MissingExtraError

    ours = spent(history, delta=delta)
    found: dict[str, float | None] = {"rdp": ours.rdp, "prv": ours.prv, "dp_rdp": None, "pld": None}
    gaussian, stated = merged(history)
    left = delta - stated.delta
    if left <= 0:
        return {**found, "dp_rdp": math.inf, "pld": math.inf}
    audited = [Audited(m.noise_multiplier, m.sample_rate, m.steps, m.discrete) for m in gaussian]
    try:
        for name, kind in (("dp_rdp", "rdp"), ("pld", "pld")):
            found[name] = stated.epsilon + epsilon_dp_accounting(audited, left, kind)
    except MissingExtraError:
        pass  # the extra is for audits; two bounds remain
    return found
