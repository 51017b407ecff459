import warnings
from typing import Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter
from pydantic_core import PydanticSerializationError

from typed_sse.strictly import strict_writer


class Inner(BaseModel):
    numbers: list[int]


class Outer(BaseModel):
    text: str = Field(alias="theText")
    inner: Inner


def test_a_value_that_fits_is_written_by_alias() -> None:
    write = strict_writer(TypeAdapter(Outer))
    value = Outer(theText="é", inner=Inner(numbers=[1]))
    assert write(value) == '{"theText":"é","inner":{"numbers":[1]}}'.encode()


@pytest.mark.parametrize("action", ["default", "ignore", "always", "error", "once", "module"])
@pytest.mark.parametrize("deep", [True, False])
def test_a_value_that_does_not_fit_is_an_error_whatever_the_filters_of_warnings_are(
    action: Literal["default", "ignore", "always", "error", "once", "module"], deep: bool
) -> None:
    write = strict_writer(TypeAdapter(Outer))
    value = Outer(theText="é", inner=Inner(numbers=[1]))
    if deep:
        value.inner.numbers.append("secret")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    else:
        value.text = 7  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        for _ in range(3):
            with pytest.raises(PydanticSerializationError, match="Expected"):
                write(value)


def test_a_value_of_another_type_is_an_error() -> None:
    with pytest.raises(PydanticSerializationError):
        strict_writer(TypeAdapter(int))("secret")


def test_what_json_does_not_take_is_an_error() -> None:
    with pytest.raises(PydanticSerializationError):
        strict_writer(TypeAdapter(object))(object())
