"""Text that came from a device or another person, made harmless for where it goes.

- A terminal obeys control characters: C0, DEL, C1 (U+009B begins a sequence as ESC [ does), and
  reorders a line by bidirectional controls. They become visible escapes (`\\x1b`, `\\u202e`).
- A spreadsheet computes a cell that begins with `= + - @`, tab or CR, and their full-width twins:
  such a cell gets a leading apostrophe. Numbers are written by us and stay numbers.
- In JSON and YAML the same characters become `\\u…` escapes, which changes no value.

Source: the CSV and CR/LF cases of the fault list; OWASP's page on CSV injection.
"""

from __future__ import annotations

import re

_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]"
)
_UNSAFE_IN_JSON = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", ""))
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_FORMULA_STARTS = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def neutralise(text: str) -> str:
    r"""One line in which no character moves a cursor, changes a colour or hides.

    >>> neutralise("a\x1b[31mb\n")
    'a\\x1b[31mb\\n'
    """
    return _UNSAFE.sub(_visible, text)


def escape_json(text: str) -> str:
    """A JSON text whose strings show what a terminal would obey; the values stay the same.

    JSON escapes C0 itself, and outside its strings the other characters can't occur.
    """
    return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def csv_cell(text: str) -> str:
    """A cell that no spreadsheet computes and that stays on its line.

    >>> csv_cell("=1+1"), csv_cell("gw-1"), csv_cell("two\\nlines")
    ("'=1+1", 'gw-1', 'two\\\\nlines')
    """
    safe = neutralise(text)
    return f"'{safe}" if text.startswith(_FORMULA_STARTS) else safe


def _visible(found: re.Match[str]) -> str:
    character = found[0]
    if character in _NAMED:
        return _NAMED[character]
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
