"""What does encoding cost? `python -m bench.encode`.

From a Pydantic payload to the bytes of its frame: the encoder alone; with what the payload is
wrapped in; with the payload itself made for each event, as in a generator; and from text. A rival
is a process of its own, alone on its core; a round's figure is the best of some runs. Every frame
is decoded once, to see that all say the same.
"""

import sys

from bench.alone import answer
from bench.field import ENCODERS, Rival
from bench.report import Figure, Measured, finish, options, take_turns
from bench.rivals.encoders import ALONE

EVENTS = "events/s"

# How many times as fast we want to be, with the encoder alone.
TARGETS = {"sse-starlette": 3.0}


def main() -> None:
    given = options("What does encoding cost?", rounds=5, field=ENCODERS)
    seconds = 0.05 if given.quick else 0.5

    def measure(rival: Rival) -> Measured:
        command = [sys.executable, "-m", f"bench.rivals.{rival.module}", rival.name]
        rates: dict[str, float] = answer(command, {"seconds": seconds})
        return {
            Figure(case, EVENTS, True, TARGETS if case == ALONE else {}): rate
            for case, rate in rates.items()
        }

    results = take_turns(given.rivals, given.rounds, measure)
    finish("encode", given, results, [EVENTS])


if __name__ == "__main__":
    main()
