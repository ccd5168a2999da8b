"""What people are shown: does it tell all that must be told, in its language, at a length one reads?"""

from __future__ import annotations

from .checking import (
    MAX_MINUTES,
    MAX_WORDS_PER_SENTENCE,
    UNCHECKED,
    Finding,
    NoticeReport,
    check_notice,
)

__all__ = [
    "MAX_MINUTES",
    "MAX_WORDS_PER_SENTENCE",
    "UNCHECKED",
    "Finding",
    "NoticeReport",
    "check_notice",
]
