r"""What a terminal obeys, taken out of texts: `\x1b` in place of an escape.

Control characters but tab and newline; what turns the direction of writing around, ends a line, or
is not seen, but for the joiners that scripts and emoji need; halves of characters. Knows the
standard library alone.
"""

import json
import re

_UNSAFE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff"
)
_CONTROLS = re.compile(f"[{_UNSAFE}]")


def escaped(text: str) -> str:
    """Return a text that can be shown on a terminal, in one or more lines."""
    return _CONTROLS.sub(_as_text, text)


def escaped_json(text: str) -> str:
    """Return a JSON text that can be shown on a terminal, and says the same.

    All of it that a terminal obeys has to be inside of strings, as it is in what `json` writes.
    """
    return _CONTROLS.sub(_as_json, text)


def _as_text(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _as_json(found: re.Match[str]) -> str:
    # Beyond 16 bits it takes two escapes. DEL is one that `json` does not escape.
    return "\\u007f" if found[0] == "\x7f" else json.dumps(found[0])[1:-1]
