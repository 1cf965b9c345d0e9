"""What people type about a device, checked before it is sent, so that the answer is a sentence and
not a validator's. The limits are the contract's; a test holds the two together.
"""

from __future__ import annotations

import re
import unicodedata

from fleet_cli.errors import UsageFailed

MAX_NAME_CHARACTERS = 128
MAX_SITE_CHARACTERS = 64
MAX_LINE_CHARACTERS = 256
MAX_TAG_KEY_CHARACTERS = 63
MAX_TAG_VALUE_CHARACTERS = 128
_INVISIBLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TAG_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")


def line_of(word: str, text: str, limit: int) -> str:
    """`text` where it can be the `word` of a device. Raises `UsageFailed`.

    >>> line_of("site", "Kraków", MAX_SITE_CHARACTERS)
    'Kraków'
    """
    rule = f"a {word} is one line of 1 to {limit} characters"
    if not text.strip():
        raise UsageFailed(f"the {word} is {'blank' if text else 'empty'}", rule)
    if len(text) > limit:
        raise UsageFailed(f"the {word} has {len(text):,} characters", rule)
    if any(unicodedata.category(character) in _INVISIBLE for character in text):
        raise UsageFailed(f"the {word} {text[:80]!r} has control characters", rule)
    return text


def tag_of(pair: str) -> tuple[str, str]:
    """Key and value of `key=value`. Raises `UsageFailed`.

    >>> tag_of("note=a=b")
    ('note', 'a=b')
    """
    key, separator, value = pair.partition("=")
    if not separator or not key:
        raise UsageFailed(f"{pair[:80]!r} is no tag", "a tag looks like env=lab")
    if _TAG_KEY.fullmatch(key) is None:
        raise UsageFailed(
            f"{key[:80]!r} can't be the key of a tag",
            f"1 to {MAX_TAG_KEY_CHARACTERS} letters, digits, '.', '_', '/' and '-', "
            "beginning with a letter or a digit",
        )
    if value:
        line_of("tag's value", value, MAX_TAG_VALUE_CHARACTERS)
    return key, value
