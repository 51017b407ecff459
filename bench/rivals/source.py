"""What every rival streams: the payload, made anew for each event by the rival's own generator.

Events are named `token`, have a running id, and data of about as many bytes as the path asks for.
Knows Pydantic and the clock; imports no library that is compared.
"""

import time

from pydantic import BaseModel

# `{"at_us":…,"index":…,"text":""}` with the numbers of a short run.
_AROUND_TEXT = 45


class Delta(BaseModel):
    """What an LLM API sends for each token, more or less.

    Attributes:
        at_us: when it was made, by the monotonic clock; the load client takes latency from it.
        index: the running number.
        text: as long as the size asks for.
    """

    at_us: int
    index: int
    text: str


def filling(size: int) -> str:
    """Return the text that makes the JSON of a `Delta` about `size` bytes long."""
    words = "so goes the text "
    return (words * (size // len(words) + 1))[: max(size - _AROUND_TEXT, 0)]


def delta(number: int, text: str) -> Delta:
    return Delta(at_us=time.monotonic_ns() // 1000, index=number, text=text)
