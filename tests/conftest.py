from collections.abc import Mapping
from typing import Any

import pytest

from typed_sse.testing import VirtualTimeLoop


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    live = request.node.get_closest_marker("live")
    return ("asyncio", {} if live else {"loop_factory": VirtualTimeLoop})
