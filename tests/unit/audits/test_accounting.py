from __future__ import annotations

import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant

from privemo_audits import accounting as acc
from privemo_audits.accounting import Release

DELTA = 1e-5
MIXED = [Release(1.2, 0.1, 20), Release(2.0, 0.1, 20), Release(1.2, 0.25, 10)]


def by_hand(accountant: object) -> float:
    for noise, rate, steps, _ in MIXED:
        event = dp_accounting.PoissonSampledDpEvent(rate, dp_accounting.GaussianDpEvent(noise))
        accountant.compose(event, steps)  # type: ignore[attr-defined]
    return float(accountant.get_epsilon(DELTA))  # type: ignore[attr-defined]


def test_recomputed_equals_a_composition_by_hand() -> None:
    got = acc.epsilon_dp_accounting(MIXED, DELTA, "rdp")
    assert got == pytest.approx(by_hand(RdpAccountant(list(acc.ORDERS))), rel=1e-12)
    got = acc.epsilon_dp_accounting(MIXED, DELTA, "pld")
    want = by_hand(PLDAccountant(value_discretization_interval=1e-3))
    assert got == pytest.approx(want, rel=1e-9)
    assert got == pytest.approx(by_hand(PLDAccountant()), rel=1e-3)


@pytest.mark.parametrize("release", [Release(1.2, 0.1, 60), Release(9.3, 0.17, 180), *MIXED])
def test_quadrature_equals_the_closed_form_at_whole_orders(release: Release) -> None:
    """At whole orders the divergence is a finite binomial sum: arXiv:1908.10530, section 3.3."""
    curve = acc.rdp_curve([release])
    for order in (2, 5, 32):
        q, s = release.sample_rate, release.noise_multiplier
        terms = [
            math.lgamma(order + 1)
            - math.lgamma(k + 1)
            - math.lgamma(order - k + 1)
            + k * math.log(q)
            + (order - k) * math.log1p(-q)
            + k * (k - 1) / (2 * s * s)
            for k in range(order + 1)
        ]
        want = release.steps * np.logaddexp.reduce(terms) / (order - 1)
        assert curve[list(acc.ORDERS).index(order)] == pytest.approx(want, rel=1e-9)


def test_quadrature_without_sampling_is_the_plain_gaussian() -> None:
    curve = acc.rdp_curve([Release(2.0, 1.0, 3)])
    assert curve == pytest.approx(3 * acc.ORDERS / (2 * 2.0**2), rel=1e-9)


def test_the_three_accountants_stand_in_order() -> None:
    """PLD is tight; quadrature is exact RDP; dp-accounting's RDP errs upwards, by under 0.5%."""
    exact = acc.epsilon_rdp(MIXED, DELTA)
    loose = acc.epsilon_dp_accounting(MIXED, DELTA, "rdp")
    tight = acc.epsilon_dp_accounting(MIXED, DELTA, "pld")
    assert tight < exact <= loose * (1 + 1e-9)
    assert loose < exact * 1.005


def test_a_tiny_epsilon_is_asked_for_on_a_finer_grid() -> None:
    """A coarse grid rounds up each of a thousand steps; an honest claim would look too small."""
    faint = [Release(1000.0, 0.1, 1000)]
    coarse = PLDAccountant(value_discretization_interval=1e-3)
    event = dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(1000.0))
    coarse.compose(event, 1000)
    tight = acc.epsilon_dp_accounting(faint, DELTA, "pld")
    assert 0.006 < tight < 0.4 * coarse.get_epsilon(DELTA)
    assert tight < acc.epsilon_rdp(faint, DELTA) < coarse.get_epsilon(DELTA)


def test_order_of_releases_does_not_matter() -> None:
    assert acc.epsilon_rdp(MIXED, DELTA) == pytest.approx(acc.epsilon_rdp(MIXED[::-1], DELTA))


@pytest.mark.parametrize(
    ("releases", "want"),
    [([], 0.0), ([Release(1.0, 0.1, 0)], 0.0), ([Release(0.0, 0.1, 1)], math.inf)],
)
def test_edges(releases: list[Release], want: float) -> None:
    assert acc.epsilon_rdp(releases, DELTA) == want
    assert acc.epsilon_dp_accounting(releases, DELTA, "rdp") == want
    assert acc.epsilon_dp_accounting(releases, DELTA, "pld") == want


def test_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    """dp-accounting warns of orders it leaves out; a reader could do nothing about it."""
    acc.epsilon_dp_accounting([Release(1.237, 0.1, 3)], DELTA, "rdp")
    assert capfd.readouterr().err == ""


def test_discrete_noise_is_recomputed_at_whole_orders_by_all_three() -> None:
    discrete, real = [Release(1.6, 0.17, 150, True)], [Release(1.6, 0.17, 150)]
    ours = acc.epsilon_rdp(discrete, 1e-5)
    assert ours == pytest.approx(acc.epsilon_dp_accounting(discrete, 1e-5, "rdp"), rel=1e-3)
    assert acc.epsilon_dp_accounting(discrete, 1e-5, "pld") == acc.epsilon_dp_accounting(
        discrete, 1e-5, "rdp"
    )
    assert acc.epsilon_rdp(real, 1e-5) <= ours < 1.05 * acc.epsilon_rdp(real, 1e-5)
    assert acc.epsilon_dp_accounting(real, 1e-5, "pld") < ours
