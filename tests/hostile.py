"""JSON schemas that try to get out of the TypeScript that is made of them, and what notices it."""

import re
from typing import Any, TypeAlias

from hypothesis import strategies as st

from typed_sse.ts_types import SCHEMAS

Schema: TypeAlias = Any
Schemas: TypeAlias = st.SearchStrategy[Schema]

PIECES = ['"', "'", "`", "\\", "*/", "/*", "//", "\n", "\r", "\u2028", "${x}", "☠", "@internal"]
NAMES = ["A", "a", '"', "*/ evil() /*", "\n", "any", "A B", "A-B", "☠"]

texts = st.lists(st.sampled_from([*PIECES, " ", "a", "\ud800", "*", "/", "\x00"])).map("".join)
_SAID: dict[str, Schemas] = {"description": texts, "deprecated": st.booleans()}


def _values_around(inner: Schemas) -> Schemas:
    return st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)


_single: Schemas = st.none() | st.booleans() | st.integers() | st.floats() | texts
values: Schemas = st.recursive(_single, _values_around, max_leaves=5)


def _schemas_around(inner: Schemas) -> Schemas:
    keys = st.fixed_dictionaries({"enum": st.lists(texts, max_size=2)})
    properties = st.dictionaries(texts, inner, max_size=3)
    parts = st.lists(inner, min_size=1, max_size=3)
    return st.one_of(
        st.fixed_dictionaries(
            {"properties": properties, "required": st.lists(texts, max_size=2)}, optional=_SAID
        ),
        st.fixed_dictionaries({"additionalProperties": inner, "propertyNames": keys}),
        st.fixed_dictionaries({"prefixItems": st.lists(inner, max_size=2), "items": inner}),
        *(st.fixed_dictionaries({keyword: parts}) for keyword in ("anyOf", "oneOf", "allOf")),
    )


_simple: Schemas = st.one_of(
    st.booleans(),
    st.fixed_dictionaries({"const": values}, optional=_SAID),
    st.fixed_dictionaries({"enum": st.lists(values, max_size=3)}),
    st.fixed_dictionaries({"type": st.sampled_from(["string", "null", "object"])}),
    st.fixed_dictionaries({"$ref": st.sampled_from([SCHEMAS + name for name in NAMES])}),
)
_schemas: Schemas = st.recursive(_simple, _schemas_around, max_leaves=8)
documents: st.SearchStrategy[dict[str, Schema]] = st.fixed_dictionaries(
    dict.fromkeys(NAMES, _schemas)
)
"""The schemas of a document by their names, which are hostile too; they refer to each other."""

_CODE = re.compile(r"[A-Za-z0-9_$\s{}\[\]()|&;:?,.=<>+-]*")


def ref(name: str) -> dict[str, str]:
    return {"$ref": SCHEMAS + name}


def assert_is_only_code(text: str) -> None:
    """Assert that a text is harmless but for its strings and comments, as TypeScript ends them."""
    left = re.sub(r'"(?:[^"\\\n]|\\.)*"|/\*.*?\*/|//[^\n]*', "", text, flags=re.DOTALL)
    assert _CODE.fullmatch(left), left
    for opening, closing in ("{}", "[]", "()"):
        assert left.count(opening) == left.count(closing), left
