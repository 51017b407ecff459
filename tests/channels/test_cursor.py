import pytest
from hypothesis import given
from hypothesis import strategies as st

from typed_sse.channels.cursor import MAX_CHANNELS, Cursor, channel_key, parsed, vector
from typed_sse.errors import InvalidField

WORDS = st.integers(0, 2**32 - 1)
LONGS = st.integers(0, 2**64 - 1)
CURSORS = st.builds(Cursor, WORDS, LONGS, WORDS)
NAMES = st.text(min_size=1, max_size=20).filter(lambda name: name.isprintable())


# --- of one channel


@given(CURSORS)
def test_a_cursor_is_read_as_it_was_written(cursor: Cursor) -> None:
    assert parsed(str(cursor)) == cursor


@pytest.mark.parametrize("cursor", [Cursor(0, 0, 0), Cursor(2**32 - 1, 2**64 - 1, 2**32 - 1)])
def test_the_smallest_and_the_largest_cursor_are_read_as_they_were_written(cursor: Cursor) -> None:
    assert parsed(str(cursor)) == cursor


@given(CURSORS)
def test_a_cursor_is_short_and_needs_no_quoting(cursor: Cursor) -> None:
    text = str(cursor)
    assert 5 <= len(text) <= 25
    assert text.replace(".", "").isalnum()
    assert text.isascii()


def test_a_cursor_is_written_in_base_62() -> None:
    assert str(Cursor(61, 62, 62 * 62 + 10)) == "z.10.10A"


@given(CURSORS, CURSORS)
def test_two_cursors_have_two_texts(one: Cursor, other: Cursor) -> None:
    assert (str(one) == str(other)) is (one == other)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "1.2",
        "1.2.",
        ".2.3",
        "1..3",
        "1.2.3.4",
        "-1.2.3",
        "+1.2.3",
        "1_0.2.3",
        " 1.2.3",
        "1.2.3 ",
        "1.2.3\n",
        "1.2.\u0663",
        "\uff11.2.3",
        "1.2.3\x00",
        "1.2.é",
    ],
)
def test_what_is_no_cursor_is_read_as_none(text: str) -> None:
    assert parsed(text) is None


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_number_that_is_too_large_is_read_as_none(place: int) -> None:
    numbers = [1, 1, 1]
    numbers[place] = 2**64 if place == 1 else 2**32
    assert parsed(str(Cursor(*numbers))) is None
    numbers[place] -= 1
    assert parsed(str(Cursor(*numbers))) == Cursor(*numbers)


def test_a_megabyte_of_digits_is_read_as_none_at_once() -> None:
    assert parsed("9" * 1_000_000 + ".1.1") is None
    assert parsed("9" * 1_000_000) is None
    assert parsed("." * 1_000_000) is None


# --- of several


@given(st.dictionaries(NAMES, CURSORS, max_size=MAX_CHANNELS))
def test_the_cursors_of_several_channels_are_read_as_they_were_written(
    cursors: dict[str, Cursor],
) -> None:
    read = parsed(vector(cursors))
    assert read == {channel_key(name): cursor for name, cursor in cursors.items()}


def test_as_many_channels_as_can_be_are_read_and_one_more_is_refused() -> None:
    cursors = {f"c{n}": Cursor(2**32 - 1, 2**64 - 1, n) for n in range(MAX_CHANNELS)}
    text = vector(cursors)
    assert len(text) < 2000
    assert parsed(text) == {channel_key(name): cursor for name, cursor in cursors.items()}
    with pytest.raises(InvalidField) as refused:
        vector(cursors | {"one more": Cursor(1, 1, 1)})
    assert (refused.value.field, refused.value.value) == ("channels", MAX_CHANNELS + 1)


def test_more_channels_than_can_be_are_read_as_none() -> None:
    entry = vector({"a": Cursor(1, 1, 1)})
    assert parsed(entry + "A" * 2000) is None


def test_a_vector_is_never_taken_for_a_cursor_of_one_channel() -> None:
    assert "." not in vector({"a": Cursor(1, 2, 3)})


@pytest.mark.parametrize("damage", ["", "=", "\n", "é", "*", "====", "\0"])
def test_a_damaged_vector_is_read_as_none_or_as_fewer_than_before(damage: str) -> None:
    text = vector({"a": Cursor(1, 2, 3)})
    for cut in range(len(text)):
        read = parsed(text[:cut] + damage)
        assert read is None or read == {}


@given(st.text(max_size=100) | st.binary(max_size=60).map(lambda b: b.decode("latin-1")))
def test_whatever_a_client_sends_is_no_error(text: str) -> None:
    read = parsed(text)
    if isinstance(read, Cursor):
        assert parsed(str(read)) == read
    elif read is not None:
        assert all(0 <= key < 2**32 for key in read)


def test_another_version_is_read_as_none() -> None:
    assert parsed("Ag") is None
    assert parsed("AQ") == {}


def test_channels_have_keys_that_last() -> None:
    assert channel_key("orders/42") == channel_key("orders/42")
    assert channel_key("") != channel_key("orders/42")
    # What browsers hold has to be understood by the next release.
    assert parsed(vector({"orders/42": Cursor(1, 2, 3)})) == {channel_key("orders/42"): (1, 2, 3)}
    assert vector({"orders/42": Cursor(1, 2, 3)}) == "AT7cDA8AAAABAAAAAwAAAAAAAAAC"
