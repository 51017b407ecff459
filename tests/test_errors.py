import typed_sse
from typed_sse import errors
from typed_sse.errors import InvalidField, TypedSSEError


def test_every_error_is_in_the_tree_of_the_docstring_and_in_the_package() -> None:
    classes = {
        cls.__name__
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, TypedSSEError)
    }
    assert errors.__doc__ is not None
    assert {
        name for name in classes if f" {name} " in errors.__doc__ or name == "TypedSSEError"
    } == (classes)
    assert classes <= set(typed_sse.__all__)


def test_a_value_in_a_message_is_bounded_however_large_deep_or_broken_it_is() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise LookupError

    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    for value in ("x" * 10**6, list(range(10**6)), nested, Broken(), 10**5000, {"k": "v" * 10**6}):
        assert len(str(InvalidField("field", value, "reason"))) < 400
