"""Replay and live join without a hole and without a duplicate, whatever goes wrong, by seeds."""

from collections.abc import Mapping

import pytest

from channels.simulated import Kind, Trouble, World, small, told
from typed_sse.channels.engine import Retain
from typed_sse.testing import Fault, run_in_virtual_time

SEEDS = 10

TROUBLES: Mapping[str, Trouble] = {
    "nothing goes wrong": Trouble(),
    "the feed is late": Trouble({Fault.DELAY: 0.3}),
    "the feed drops, doubles and reorders": Trouble(
        {Fault.DROP: 0.1, Fault.DUPLICATE: 0.1, Fault.SWAP: 0.1, Fault.LOST: 0.1, Fault.DELAY: 0.1}
    ),
    "the engine is away at times": Trouble(
        {Fault.UNAVAILABLE: 0.2, Fault.STALL: 0.05, Fault.DELAY: 0.1}, outages=True
    ),
    "little is kept": Trouble({Fault.DELAY: 0.1, Fault.DROP: 0.05}, retain=Retain(events=2)),
    "older copies are put back": Trouble({Fault.DELAY: 0.1}, forks=True),
    "everything": Trouble(
        {
            Fault.DROP: 0.05,
            Fault.DUPLICATE: 0.05,
            Fault.SWAP: 0.05,
            Fault.LOST: 0.05,
            Fault.DELAY: 0.1,
            Fault.UNAVAILABLE: 0.1,
        },
        outages=True,
        forks=True,
        retain=Retain(events=20),
    ),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
@pytest.mark.parametrize("kind", ["one", "three", "twelve", "prefix"])
def test_every_reader_gets_what_follows_or_is_told_of_a_gap(kind: Kind, trouble: Trouble) -> None:
    for seed in range(SEEDS):
        with pytest.MonkeyPatch.context() as patch:
            small(patch, seed)
            world = World(seed, kind, trouble)
            run_in_virtual_time(told(seed, world.run))
