"""typed-sse in FastAPI: a path operation of its router, which also checks each event's class."""

from collections.abc import AsyncIterator

from bench.rivals.tokens import Token, tokens
from fastapi import FastAPI

from typed_sse.fastapi import EventRouter

router = EventRouter()


@router.get("/{size}/{pause_ms}")
def stream(size: int, pause_ms: int) -> AsyncIterator[Token]:
    return tokens(size, pause_ms)


app = FastAPI()
app.include_router(router)
