"""Signatures: what functions and annotations say of themselves, through wrappers and aliases.

Knows `inspect` and `typing`, nothing of events or of any framework.
"""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from types import FunctionType, UnionType
from typing import Annotated, Any, Protocol, Union, cast, get_args, get_origin, runtime_checkable


@runtime_checkable
class TypeAlias(Protocol):
    """What `type Name = ...` makes; by its shape, since Python 3.11 has no class to ask for."""

    @property
    def __value__(self) -> object:
        """Return what the alias stands for."""
        raise NotImplementedError


def annotated(annotation: object) -> tuple[object, list[object]]:
    """Return what an annotation stands for, and what `Annotated` adds to it, outermost last."""
    if isinstance(annotation, TypeAlias):
        return annotated(annotation.__value__)
    if get_origin(annotation) is Annotated:
        inner, *added = get_args(annotation)
        stands_for, before = annotated(inner)
        return stands_for, [*before, *added]
    return annotation, []


def aliased(annotation: object) -> object:
    """Return what an annotation stands for: without `Annotated`, an alias replaced by its value."""
    return annotated(annotation)[0]


def members(annotation: object) -> Iterator[object]:
    """Yield what a union is made of, or the one thing that is no union."""
    annotation = aliased(annotation)
    if get_origin(annotation) in (Union, UnionType):
        for member in get_args(annotation):
            yield from members(member)
    else:
        yield annotation


def signature_of(function: Callable[..., object]) -> inspect.Signature:
    """Return the signature, its annotations evaluated where every name in them is known."""
    try:
        return inspect.signature(function, eval_str=True)
    except NameError:
        if sys.version_info >= (3, 14):
            # Annotations are evaluated late there; an unknown one stays a forward reference.
            from annotationlib import Format

            return inspect.signature(function, annotation_format=Format.FORWARDREF)
        return inspect.signature(function)


def closure_of(function: FunctionType) -> dict[str, object]:
    """Return the local names around a function that have a value by now."""
    names: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # still empty: defined further down
            names[name] = cell.cell_contents
    return names


def name_of(function: Callable[..., object]) -> str:
    """Return a name for messages, with the module where there is one."""
    name = getattr(function, "__qualname__", repr(function))
    module = getattr(function, "__module__", None)
    return f"{module}.{name}" if isinstance(module, str) else name


def called(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that runs when `function`, whatever it is, is called."""
    function = inspect.unwrap(function)
    if isinstance(function, partial):
        return called(cast("partial[object]", function).func)
    if inspect.isroutine(function) or isinstance(function, type):
        return function
    return type(function).__call__


def generates(function: Callable[..., Any]) -> bool:
    """Return whether a call makes an async or a sync generator."""
    runs = called(function)
    return inspect.isasyncgenfunction(runs) or inspect.isgeneratorfunction(runs)
