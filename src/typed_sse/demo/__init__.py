"""The demo: `python -m typed_sse.demo` serves five streams and a page that shows them."""

from typed_sse.demo.app import app

__all__ = ["app"]
