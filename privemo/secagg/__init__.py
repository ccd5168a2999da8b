"""Secure aggregation: the server learns the sum of the stores' vectors, and nothing of any one of them.

* `privemo.secagg.session`: who takes part in one sum, and how many are needed;
* `privemo.secagg.member`: what a store sends, and what it refuses;
* `privemo.secagg.statements`: what they sign, and the masks that follow from their keys;
* `privemo.secagg.shares`: shares of their secrets, and who lied where some do not hold;
* `privemo.secagg.collector`: what the server does;
* `privemo.secagg.lattice`: sums of clipped gradients as whole numbers, with noise that stores share;
* `privemo.secagg.gradients`: from gradients by name to such a sum, and back to an update.
"""

from __future__ import annotations

from privemo.secagg.collector import Collector
from privemo.secagg.lattice import Lattice
from privemo.secagg.member import Member
from privemo.secagg.session import Session, needed
from privemo.secagg.statements import Advert, Reveal, Roster

__all__ = [
    "Advert",
    "Collector",
    "Lattice",
    "Member",
    "Reveal",
    "Roster",
    "Session",
    "needed",
]
