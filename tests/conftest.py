from collections.abc import Mapping
from typing import Any

import pytest

import clock


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, Mapping[str, Any]]:
    return ("asyncio", {}) if request.node.get_closest_marker("live") else clock.VIRTUAL
