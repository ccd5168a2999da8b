"""The four emotions and the size of a face: constants that every part agrees on."""

from __future__ import annotations

__all__ = ["EMOTIONS", "IMAGE_SIZE"]

EMOTIONS: tuple[str, str, str, str] = ("happy", "sad", "neutral", "surprise")
"""Names of the classes; a label is an index into this tuple."""

IMAGE_SIZE = 48
"""Faces are square, this many pixels wide and high."""
