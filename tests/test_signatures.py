import functools
from collections.abc import AsyncIterator, Iterator
from types import FunctionType
from typing import Annotated, Any

import pytest

from typed_sse import signatures


class Alias:
    """What `type Name = ...` makes on Python 3.12 and later, by its shape."""

    def __init__(self, value: object) -> None:
        self.__value__ = value


def plain(number: int) -> int:
    return number


async def async_generator() -> AsyncIterator[int]:
    yield 1


def sync_generator() -> Iterator[int]:
    yield 1


class Methods:
    async def method(self) -> AsyncIterator[int]:
        yield 1

    def __call__(self) -> Iterator[int]:
        yield 1


def test_what_annotated_adds_is_found_through_aliases_outermost_last() -> None:
    alias = Alias(Annotated[Alias(Annotated[int, "a"]), "b"])
    assert signatures.annotated(Annotated[alias, "c"]) == (int, ["a", "b", "c"])
    assert signatures.annotated(str) == (str, [])
    assert signatures.aliased(alias) is int


def test_the_members_of_a_union_are_found_through_unions_and_aliases() -> None:
    assert list(signatures.members(int | Annotated[str | None, "x"])) == [int, str, type(None)]
    assert list(signatures.members(Alias(int | str))) == [int, str]
    assert list(signatures.members(int)) == [int]


def test_annotations_are_evaluated_where_all_their_names_are_known() -> None:
    def known(number: "int") -> "str":
        return str(number)

    signature = signatures.signature_of(known)
    assert signature.parameters["number"].annotation is int
    assert signature.return_annotation is str

    def unknown() -> None: ...

    unknown.__annotations__["return"] = "Unknown"
    assert "Unknown" in str(signatures.signature_of(unknown).return_annotation)


def test_the_closure_of_a_function_has_the_names_that_have_a_value_by_now() -> None:
    here = 1

    def function() -> Any:
        return here, later

    assert isinstance(function, FunctionType)
    assert signatures.closure_of(function) == {"here": 1}
    later = 2
    assert signatures.closure_of(function) == {"here": 1, "later": 2}


def test_a_function_has_a_name_for_messages() -> None:
    assert signatures.name_of(sync_generator) == f"{__name__}.sync_generator"
    assert "functools.partial(" in signatures.name_of(functools.partial(sync_generator))


@pytest.mark.parametrize(
    ("function", "generates"),
    [
        (async_generator, True),
        (sync_generator, True),
        (functools.partial(sync_generator), True),
        (functools.partial(functools.partial(plain, 1)), False),
        (Methods().method, True),
        (Methods(), True),
        (Methods, False),
        (plain, False),
        (len, False),
        (functools.wraps(sync_generator)(lambda: None), True),
    ],
)
def test_a_call_makes_a_generator_or_does_not(function: Any, generates: bool) -> None:
    assert signatures.generates(function) is generates
