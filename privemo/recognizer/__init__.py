"""The recognizer in the store: what an exported model says of the face of somebody who agreed.

::

    recognizer = privemo.Recognizer.load("model.onnx", keys=[KEY], registry=registry, jurisdiction="IE")
    here = privemo.Region(160, 80, 320, 320)
    with recognizer.session("p-41", age_band="35_44", region=here) as session:
        for frame in privemo.frames(0, per_second=2):
            reading = recognizer.read(frame, session)

Needs the extra `privemo[edge]` (ONNX Runtime, OpenCV) and no torch. `exported` verifies a model, `faces`
finds a face, `age` guesses how old it looks, `session` says whose it is, `visits` learns it from the kiosk,
`reader` keeps them in order, and `base` tells the staff once of what is wrong.
"""

from privemo.recognizer.card import ModelCard
from privemo.recognizer.exported import Exported, open_exported
from privemo.recognizer.reader import Recognizer
from privemo.recognizer.readings import Event, Outcome, Reading, Region
from privemo.recognizer.session import Limits, Session
from privemo.recognizer.visits import Visits

__all__ = [
    "Event",
    "Exported",
    "Limits",
    "ModelCard",
    "Outcome",
    "Reading",
    "Recognizer",
    "Region",
    "Session",
    "Visits",
    "open_exported",
]
