"""Attacks on a run's own mechanism: what an epsilon is worth against somebody who tries.

Accountants check arithmetic. Whether the noise that they reckon with is the noise that is really added, only
an attack can tell. So a run is *rehearsed*: the same code, the same noise, rates and steps, on people who do
not exist and whose every use is known (canaries), and an adversary who sees all that the server sees tries to
tell who took part. Nobody's face is read for it: an attack on real people would need their consent.

What comes out is counted, not judged: `privemo_audits.attacked` turns the counts into lower bounds of
epsilon, without this package.
"""

from privemo.attacks.attack import attack
from privemo.attacks.history import ATTACK_FILE

__all__ = ["ATTACK_FILE", "attack"]
