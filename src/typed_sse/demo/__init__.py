"""The demo: `python -m typed_sse.demo` serves a room and five streams, and a page that shows them.

The application is `typed_sse.demo.app:app`; its room is stored where `TYPED_SSE_URL` says, in the
memory of one process by default.
"""

import os

URL_VARIABLE = "TYPED_SSE_URL"


def engine_url() -> str:
    """Return the URL of the room's engine."""
    return os.environ.get(URL_VARIABLE) or "memory://"
