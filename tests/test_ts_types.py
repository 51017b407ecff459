import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostile import NAMES, Schema, assert_is_only_code, documents, ref, texts
from typed_sse.ts_types import SCHEMAS, Types, about, block, comment, quoted, written


def type_of(schema: Schema, **schemas: Schema) -> str:
    return written(Types(schemas, ()).of(schema))


def declarations(asked: Schema, schemas: Mapping[str, Schema], *taken: str) -> list[str]:
    types = Types(schemas, taken)
    types.of(asked)
    return types.declarations()


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        (True, "unknown"),
        ({}, "unknown"),
        (False, "never"),
        ({"type": "string", "format": "date-time"}, "string"),
        ({"type": "integer", "minimum": 3}, "number"),
        ({"type": "number"}, "number"),
        ({"type": "boolean"}, "boolean"),
        ({"type": "null"}, "null"),
        ({"type": "no such type"}, "unknown"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"not": {"type": "string"}}, "unknown"),
        ({"contentMediaType": "application/json", "type": "string"}, "string"),
    ],
)
def test_a_kind_of_value_is_its_type(schema: Schema, wanted: str) -> None:
    assert type_of(schema) == wanted


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"const": "a", "type": "string"}, '"a"'),
        ({"const": None}, "null"),
        ({"enum": ["red", "b"], "type": "string"}, '"red" | "b"'),
        ({"enum": [1, "x", None, True]}, '1 | "x" | null | true'),
        ({"const": -1}, "-1"),
        ({"const": 1.5}, "1.5"),
        ({"const": 1e-7}, "1e-07"),
        ({"const": float("inf")}, "number"),
        ({"const": float("nan")}, "number"),
        ({"const": [1, [False]]}, "[1, [false]]"),
        ({"const": {"a": 1, "b-c": "d"}}, '{\n  a: 1;\n  "b-c": "d";\n}'),
        ({"const": b"not JSON"}, "unknown"),
        ({"enum": ["a", "a"]}, '"a"'),
    ],
)
def test_a_value_that_is_given_is_a_type_of_its_own(schema: Schema, wanted: str) -> None:
    assert type_of(schema) == wanted


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"items": {"type": "integer"}, "type": "array"}, "number[]"),
        ({"type": "array"}, "unknown[]"),
        ({"items": {"type": "integer"}}, "number[]"),
        ({"items": False, "type": "array"}, "never[]"),
        ({"items": {"type": ["string", "null"]}, "type": "array"}, "(string | null)[]"),
        ({"items": {"items": {"enum": [1, 2]}}, "uniqueItems": True}, "(1 | 2)[][]"),
        ({"maxItems": 0, "minItems": 0, "type": "array"}, "[]"),
        (
            {"maxItems": 2, "minItems": 2, "prefixItems": [{"type": "integer"}, True]},
            "[number, unknown]",
        ),
        (
            {"maxItems": 2, "minItems": 1, "prefixItems": [{"type": "integer"}, {"enum": [1, 2]}]},
            "[number, (1 | 2)?]",
        ),
        ({"prefixItems": [{"const": 1}], "items": False, "minItems": 1}, "[1]"),
        (
            {"prefixItems": [{"const": 1}], "items": {"type": ["string", "null"]}, "minItems": 1},
            "[1, ...(string | null)[]]",
        ),
        ({"prefixItems": [{"const": 1}], "minItems": 1}, "[1, ...unknown[]]"),
    ],
)
def test_an_array_is_an_array_or_a_tuple(schema: Schema, wanted: str) -> None:
    assert type_of(schema) == wanted


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"type": "object"}, "{ [key: string]: unknown }"),
        ({"type": "object", "properties": {}}, "{ [key: string]: unknown }"),
        ({"type": "object", "additionalProperties": False}, "{ [key: string]: never }"),
        ({"additionalProperties": {"type": "integer"}}, "{ [key: string]: number }"),
        (
            {"additionalProperties": {"type": "integer"}, "propertyNames": {"format": "uuid"}},
            "{ [key: string]: number }",
        ),
        (
            {"additionalProperties": True, "propertyNames": {"enum": ["a", "b-c"]}},
            '{ [key in "a" | "b-c"]?: unknown }',
        ),
        (
            {"additionalProperties": {"type": "null"}, "propertyNames": ref("Color")},
            '{ [key in "red"]?: null }',
        ),
        (
            {"additionalProperties": {"type": "null"}, "propertyNames": {"enum": [1, None]}},
            "{ [key: string]: null }",
        ),
        (
            {"patternProperties": {"^a": {"type": "integer"}, "^b": {"type": "string"}}},
            "{ [key: string]: number | string }",
        ),
        (
            {
                "patternProperties": {"^a": {"type": "integer"}},
                "additionalProperties": {"type": "null"},
            },
            "{ [key: string]: number | null }",
        ),
    ],
)
def test_an_object_without_properties_is_a_record(schema: Schema, wanted: str) -> None:
    assert type_of(schema, Color={"enum": ["red"]}) == wanted


def test_a_property_is_optional_unless_it_is_required_or_a_tag() -> None:
    schema = {
        "type": "object",
        "properties": {
            "needed": {"type": "string"},
            "with_default": {"type": "integer", "default": 1},
            "tag": {"const": "cat", "default": "cat"},
            "sometimes_cat": {"const": "cat", "default": None},
            "none": {"const": None},
            "anything": True,
        },
        "required": ["needed"],
    }
    assert type_of(schema) == block(
        [
            "needed: string;",
            "with_default?: number;",
            'tag: "cat";',
            'sometimes_cat?: "cat";',
            "none?: null;",
            "anything?: unknown;",
        ]
    )


def test_a_property_has_its_comment_and_a_name_that_is_quoted_where_it_must_be() -> None:
    schema = {
        "properties": {
            "plain": {"type": "string", "description": "Said."},
            "old": {"type": "string", "deprecated": True},
            "both": {"type": "string", "description": "Two\n\nparts.", "deprecated": True},
            "a-b": {"type": "string", "deprecated": False},
            "2": {"type": "string"},
            "": {"type": "string"},
            "class": {"type": "string"},
            "grün": {"type": "string"},
        }
    }
    assert type_of(schema) == (
        "{\n"
        "  /** Said. */\n"
        "  plain?: string;\n"
        "  /** @deprecated */\n"
        "  old?: string;\n"
        "  /**\n"
        "   * Two\n"
        "   *\n"
        "   * parts.\n"
        "   * @deprecated\n"
        "   */\n"
        "  both?: string;\n"
        '  "a-b"?: string;\n'
        '  "2"?: string;\n'
        '  ""?: string;\n'
        "  class?: string;\n"
        '  "grün"?: string;\n'
        "}"
    )


@pytest.mark.parametrize(
    ("more", "signature"),
    [
        ({}, ""),
        ({"additionalProperties": True}, ""),
        ({"additionalProperties": False}, ""),
        ({"additionalProperties": {}}, ""),
        ({"additionalProperties": {"type": "integer"}}, "  [key: string]: unknown;\n"),
    ],
)
def test_only_further_properties_that_have_a_type_let_every_name_pass(
    more: Schema, signature: str
) -> None:
    schema = {"properties": {"a": {"type": "string"}}, "required": ["a"], **more}
    assert type_of(schema) == f"{{\n  a: string;\n{signature}}}"


A = {"properties": {"a": {"type": "string"}}, "required": ["a"]}
B = {"properties": {"b": {"type": "string"}}, "required": ["b"]}


@pytest.mark.parametrize(
    ("schema", "wanted"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string | null"),
        ({"oneOf": [ref("A"), ref("B")], "discriminator": {"propertyName": "a"}}, "A | B"),
        ({"anyOf": [{"type": "string"}, {}]}, "unknown"),
        ({"anyOf": [{"type": "string"}, False]}, "string"),
        ({"anyOf": [{"type": "integer"}, {"type": "number"}]}, "number"),
        ({"anyOf": []}, "never"),
        ({"allOf": [ref("A")], "description": "Said."}, "A"),
        ({"allOf": [ref("A"), ref("B")]}, "(A & B)"),
        ({"allOf": [ref("A"), {"anyOf": [ref("B"), {"type": "null"}]}]}, "(A & (B | null))"),
        ({"type": "object", "anyOf": [ref("A"), ref("B")]}, "A | B"),
        ({"type": "object", "allOf": [{"type": "object"}]}, "{ [key: string]: unknown }"),
        ({**ref("A"), "properties": {"c": True}}, "(A & {\n  c?: unknown;\n})"),
        ({**ref("A"), "default": {"a": "b"}, "title": "A"}, "A"),
        ({"items": {"allOf": [ref("A"), ref("B")]}}, "(A & B)[]"),
        (ref("Missing"), "unknown"),
        ({"$ref": "other.json#/A"}, "unknown"),
        ({"$ref": SCHEMAS + "A/properties/a"}, "unknown"),
    ],
)
def test_a_schema_is_all_that_its_keywords_say_at_once(schema: Schema, wanted: str) -> None:
    assert type_of(schema, A=A, B=B) == wanted


def test_a_long_union_has_a_line_for_each_of_its_members() -> None:
    colors = [f"color number {number}" for number in range(6)]
    union = type_of({"enum": colors})
    assert union == "".join(f"\n  | {json.dumps(color)}" for color in colors)
    assert "\n" not in type_of({"items": {"enum": colors}})


def test_only_what_is_referred_to_is_declared_and_by_name() -> None:
    schemas = {
        "Unused": A,
        "Z": {"properties": {"a": ref("A")}, "required": ["a"], "description": "The last."},
        "A": {"type": ["integer", "null"], "deprecated": True},
    }
    assert declarations(ref("Z"), schemas) == [
        "/** @deprecated */\nexport type A = number | null;\n",
        "/** The last. */\nexport interface Z {\n  a: A;\n}\n",
    ]


def test_a_schema_may_refer_to_itself() -> None:
    tree = {"properties": {"kids": {"items": ref("Tree")}}, "required": ["kids"]}
    anything = {
        "anyOf": [{"additionalProperties": ref("J")}, {"items": ref("J")}, {"type": "null"}]
    }
    assert declarations(ref("Tree"), {"Tree": tree}) == [
        "export interface Tree {\n  kids: Tree[];\n}\n"
    ]
    assert declarations(ref("J"), {"J": anything}) == [
        "export type J = { [key: string]: J } | J[] | null;\n"
    ]


def test_a_schema_that_is_nothing_but_itself_is_unknown() -> None:
    schemas: dict[str, Schema] = {
        "Itself": {"anyOf": [ref("Itself"), {"type": "string"}]},
        "There": ref("Back"),
        "Back": {"allOf": [ref("There")]},
        "Outside": {"oneOf": [ref("There"), ref("There"), ref("A")]},
        "Unknown": {"oneOf": [ref("There"), ref("Missing"), True]},
        "A": A,
    }
    for circular in ("Itself", "There", "Back"):
        assert f"export type {circular} = unknown;\n" in declarations(ref(circular), schemas)
    # What refers to such a one is not one.
    assert "export type Outside = There | A;\n" in declarations(ref("Outside"), schemas)
    assert "export type Unknown = unknown;\n" in declarations(ref("Unknown"), schemas)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("Page_Item_", "Page_Item_"),
        ("Item-Output", "Item_Output"),
        ("app.models.Item", "App_models_Item"),
        ("Item[int]", "Item_int_"),
        ("any", "Any"),
        ("class", "Class"),
        ("undefined", "Undefined"),
        ("3D", "_3D"),
        ("", "_"),
        ("Ünder", "_nder"),
        ("a; export const x = 1", "A__export_const_x___1"),
        ("Taken", "Taken2"),
    ],
)
def test_a_name_is_an_identifier_that_nothing_else_has(name: str, wanted: str) -> None:
    assert Types({}, ["Taken"]).name(name) == wanted


def test_names_that_become_the_same_are_numbered() -> None:
    types = Types({}, ())
    assert [types.name(name) for name in ("a b", "A-b", "A_b", "a.b")] == [
        "A_b",
        "A_b2",
        "A_b3",
        "A_b4",
    ]


def test_a_reference_keeps_the_name_that_it_was_given() -> None:
    types = Types({"a": A, "A": B}, ())
    first = types.of(ref("a")), types.of(ref("A"))
    assert first == (("A",), ("A2",)) == (types.of(ref("a")), types.of(ref("A")))
    assert len(types.declarations()) == 2


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ""),
        ("  \n ", ""),
        ("Said.", "/** Said. */\n"),
        ("ends it */ evil()", "/** ends it *\\/ evil() */\n"),
        ("**/", "/** **\\/ */\n"),
        ("*\n/", "/**\n * *\n * /\n */\n"),
        ("a\r\nb\u2028c\x0bd", "/**\n * a\n * b\n * c\n * d\n */\n"),
        ("@internal", "/** \\@internal */\n"),
        (
            "see @deprecated, me@example.com, a @ b",
            "/** see \\@deprecated, me@example.com, a @ b */\n",
        ),
        (
            "turned \u202e, nul \x00, half \ud800",
            "/** turned \\u202e, nul \\u0000, half \\ud800 */\n",
        ),
    ],
)
def test_a_comment_holds_what_it_is_given(text: str, wanted: str) -> None:
    assert comment(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ('"; evil(); "', r'"\"; evil(); \""'),
        ("\\", r'"\\"'),
        ("${x} `y` 'z'", "\"${x} `y` 'z'\""),
        ("a\nb\u2028c\x7f", r'"a\nb\u2028c\u007f"'),
        ("grün 🚀", '"grün 🚀"'),
        ("\ud800", r'"\ud800"'),
    ],
)
def test_a_string_holds_what_it_is_given(text: str, wanted: str) -> None:
    assert quoted(text) == wanted
    assert json.loads(quoted(text)) == text


def test_there_is_nothing_to_say_about_a_schema_that_says_nothing() -> None:
    assert about(True) == about({}) == about({"description": ""}) == ""


@given(documents)
def test_no_text_leaves_its_string_or_comment(given_schemas: dict[str, Schema]) -> None:
    asked = {"anyOf": [ref(name) for name in NAMES]}
    for declaration in declarations(asked, given_schemas, "A"):
        assert_is_only_code(declaration)


@given(texts)
def test_a_string_is_read_back_as_it_was(text: str) -> None:
    assert json.loads(quoted(text)) == text


@given(documents, st.permutations(NAMES))
def test_the_order_of_the_schemas_changes_nothing(
    given_schemas: dict[str, Schema], names: list[str]
) -> None:
    asked = {"anyOf": [ref(name) for name in NAMES]}
    shuffled = {name: given_schemas[name] for name in names}
    assert declarations(asked, shuffled) == declarations(asked, given_schemas)


def test_an_array_of_objects_is_a_type_and_no_interface() -> None:
    point: Schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    lines: Schema = {"type": "array", "items": {"type": "array", "items": point}}
    assert declarations(ref("Lines"), {"Lines": lines}) == [
        "export type Lines = {\n  x: number;\n}[][];\n"
    ]
