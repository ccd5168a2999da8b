"""Where a model looks, and what a set of faces invites it to look at.

Everything here is measured on people who do not exist, drawn for it: where their eyes, mouth and cheeks lie
in a picture is read off the geometry that was rendered, so no detector guesses, and nobody has to be asked.

* `privemo.explain.run`: `explain_run`, everything about one model, written to files;
* `privemo.explain.attribution`: which pixels an answer rests on (integrated gradients, Grad-CAM);
* `privemo.explain.covering`: what the model loses when a part of the face is covered;
* `privemo.explain.dataset`: `explain_data`, what separates the emotions, and what is a shortcut;
* `privemo.explain.looks`: the file `looks.json`, which an audit reads.

Attribution says what an answer rests on, covering what it cannot do without. They can differ, so both are
told.
"""

from __future__ import annotations

from privemo.explain.attribution import METHODS, Attribution, attribute
from privemo.explain.covering import cover
from privemo.explain.dataset import explain_data
from privemo.explain.looks import LOOKS_FILE, Looks
from privemo.explain.parts import PARTS
from privemo.explain.run import explain_run

__all__ = [
    "LOOKS_FILE",
    "METHODS",
    "PARTS",
    "Attribution",
    "Looks",
    "attribute",
    "cover",
    "explain_data",
    "explain_run",
]
