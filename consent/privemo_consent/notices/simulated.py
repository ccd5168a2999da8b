"""The notice of a simulation: whole as a real one, so that it shows how one is written."""

from __future__ import annotations

from ..records import Notice, Party, Right, Told
from ..terms import Purpose

__all__ = ["simulated_notice"]

_TEXT = """\
This notice belongs to a simulation. Nobody was asked. It says what a real one would say:
{name} asks whether it may use pictures of your face. You may agree to each use alone:
- to train a model that recognises expressions;
- to suit what you are shown to your mood;
- to check that the model works for everyone.
Pictures are used only with your explicit consent. They stay on the store's own machine for 365
days and are then deleted. Nobody receives them. You may say no, and nothing changes for you.
You may change your mind at any time: one call, ConsentRegistry.withdraw.
You may see what is held, correct it, delete it, pause its use, or take it with you. Write to
{contact}. You may complain to the Simulated Authority.
"""
_TOLD = {
    Purpose.TRAINING: "to train a model that recognises expressions",
    Purpose.PERSONALISATION: "to suit what you are shown to your mood",
    Purpose.FAIRNESS_AUDIT: "to check that the model works for everyone",
    "lawful_basis": "only with your explicit consent",
    Right.ACCESS: "see what is held",
    Right.RECTIFICATION: "correct it",
    Right.ERASURE: "delete it",
    Right.RESTRICTION: "pause its use",
    Right.PORTABILITY: "take it with you",
}
_AUTHORITY = Party(
    id="simulated-authority",
    name="Simulated Authority",
    address="nowhere",
    contact="nobody@authority.invalid",
    type="authority",
)


def simulated_notice(controller: Party, *, jurisdiction: str = "IE") -> Notice:
    """Return the notice of a simulation; it says that it is one."""
    return Notice(
        notice_id="simulated-notice",
        version=1,
        language="en",
        text=_TEXT.format(name=controller.name, contact=controller.contact),
        controller=controller,
        purposes=tuple(Purpose),
        jurisdictions=(jurisdiction,),
        recipients="none",
        storage_location="on the store's own machine",
        retention_days=365,
        withdrawal_method="one call, ConsentRegistry.withdraw",
        representative="none",
        data_protection_officer="none",
        transfers="none",
        rights=tuple(Right),
        authority=_AUTHORITY,
        data_required=False,
        refusal="nothing changes for you",
        automated_decisions="none",
        told=tuple(Told(item=item, words=words) for item, words in _TOLD.items()),
    )
