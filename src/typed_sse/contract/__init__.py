"""The laws of engines as tests: whoever writes an engine subclasses `EngineContract`.

The names of the tests say the laws; `typed_sse.channels.engine` has their words. `process` is what
they are written with, `faults` an engine that goes wrong for tests of what is built on one,
`machine` compares with the engine in memory. Knows the protocol, and no test runner.
"""

from unittest import SkipTest

from typed_sse.contract.appending import AppendLaws
from typed_sse.contract.feeding import FeedLaws
from typed_sse.contract.log import LogLaws
from typed_sse.contract.trouble import TroubleLaws


class EngineContract(LogLaws, AppendLaws, FeedLaws, TroubleLaws):
    """The laws that an engine keeps; a test runner finds them in a subclass.

    A subclass says in `make` how an engine on the test's store is made. Each test has names of its
    own, so one store will do for all. What else a test does to a store, it does by these methods;
    where a subclass has not got one, the tests that need it are skipped. Set them to `None` where
    they cannot apply:

    - `lose_connection`: tests of reconnecting.
    - `outage`: tests of a store that is killed and started again, and of errors in between.
    - `stall`: tests of a store that does not answer.
    - `copy_store` and `restore_store`: tests of a failover to an older copy.
    - `clear_store`: tests of a store that has lost everything.
    - `pass_time`: tests of what is forgotten after minutes.

    Random operations are compared with the engine in memory where Hypothesis is installed. Beyond
    the laws, one thing is asked: that an engine whose connection is well loses nothing.
    """

    def test_random_operations_do_what_they_do_in_memory(self) -> None:
        """Compare with the engine in memory, where Hypothesis is installed."""
        try:
            from typed_sse.contract.machine import compare_with_memory
        except ImportError as error:
            raise SkipTest(
                f"install hypothesis to compare with the engine in memory: {error}"
            ) from error
        compare_with_memory(self)
