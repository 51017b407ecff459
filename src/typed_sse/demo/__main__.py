"""Serves the demo on http://127.0.0.1:12345, or on the port given as the first argument."""

import sys

import uvicorn

from typed_sse.demo.app import app

if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 12345
    uvicorn.run(app, host="127.0.0.1", port=port)
