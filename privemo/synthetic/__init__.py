"""People who do not exist: faces rendered from a parametric head, for trying everything on nobody.

::

    from privemo.synthetic import synthesize

    people = synthesize(2000, 4, seed=7)
    people.save("people.npz")

Each person has an age, a gender presentation, a skin tone on the Monk scale, a face of their own, hair and
brows; each picture an expression, a pose, a light and a background. Importing this package is cheap; the ray
caster (extra `privemo[synth]`) is loaded on first use.
"""

from privemo.synthetic.head import REGIONS
from privemo.synthetic.people import synthesize
from privemo.synthetic.sheet import contact_sheet, save_png
from privemo.synthetic.table import ORIGIN, NotSaved, SyntheticPeople

__all__ = [
    "ORIGIN",
    "REGIONS",
    "NotSaved",
    "SyntheticPeople",
    "contact_sheet",
    "save_png",
    "synthesize",
]
