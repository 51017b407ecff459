"""Dependencies: which an endpoint has, and how long each is to live. Knows FastAPI's markers.

Beside `fastapi`, the only file that knows FastAPI.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from fastapi import params

from typed_sse.errors import InvalidDeclaration
from typed_sse.signatures import annotated, generates, name_of, signature_of


def _dependency(parameter: inspect.Parameter) -> params.Depends | None:
    """Return the marker of a parameter that is a dependency; FastAPI takes the last of several."""
    stands_for, added = annotated(parameter.annotation)
    for mark in (parameter.default, *reversed(added)):
        if isinstance(mark, params.Depends):
            if mark.dependency is None and isinstance(stands_for, type):
                return replace(mark, dependency=stands_for)
            return mark
    return None


def asks_to_stay(dependency: params.Depends) -> bool:
    """Return whether a dependency, or one of its own, is to live as long as the stream."""
    function = dependency.dependency
    return dependency.scope == "request" or (function is not None and _one_asks_to_stay(function))


@lru_cache(maxsize=1024)
def _one_asks_to_stay(function: Callable[..., Any]) -> bool:
    further = (mark for _, mark in dependencies_of(signature_of(function)))
    return any(map(asks_to_stay, further))


def check_scope(function: Callable[..., Any], name: str, dependency: params.Depends) -> None:
    """Refuse a generator that would be given what was closed before it runs, and not know it."""
    if dependency.scope is not None or dependency.dependency is None:
        return
    if generates(dependency.dependency):
        reason = (
            f"{name!r} is a dependency with `yield`; say whether it lives as long as the stream, "
            'Depends(…, scope="request"), or is closed before the stream starts, '
            'Depends(…, scope="function"); or return the stream from a function of its own'
        )
        raise InvalidDeclaration((name_of(function),), reason)
    for inner, further in dependencies_of(signature_of(dependency.dependency)):
        check_scope(function, f"{name}.{inner}", further)


def dependencies_of(signature: inspect.Signature) -> Iterator[tuple[str, params.Depends]]:
    """Go through the names and markers of a signature's dependencies."""
    for parameter in signature.parameters.values():
        mark = _dependency(parameter)
        if mark is not None:
            yield parameter.name, mark
