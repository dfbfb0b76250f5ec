"""Did the model find what was hidden? Scored apart from whether the engine is sound.

Scoring is RULER's ``string_match_all``: the share of hidden answers contained in the output,
case-insensitively.
"""

from __future__ import annotations

from leadline.records import Record

# RULER's threshold for an effective length (score of Llama-2-7B at 4K).
EFFECTIVE_RECALL = 0.856


def found_needles(record: Record) -> list[bool]:
    """One flag per needle; empty when none was hidden or the request failed."""
    if record.exchange.failure is not None:
        return []
    text = record.exchange.text.casefold()
    return [needle.answer.casefold() in text for needle in record.sent.needles]
