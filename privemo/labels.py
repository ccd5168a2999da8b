"""The four emotions and the size of a face: constants that every part agrees on."""

from __future__ import annotations

__all__ = ["EMOTIONS", "IMAGE_SIZE", "LUMA"]

EMOTIONS: tuple[str, str, str, str] = ("happy", "sad", "neutral", "surprise")
"""Names of the classes; a label is an index into this tuple."""

IMAGE_SIZE = 48
"""Faces are square, this many pixels wide and high."""

LUMA = (0.299, 0.587, 0.114)
"""Share of red, green and blue in gray (ITU-R BT.601), as the renderer mixes them."""
