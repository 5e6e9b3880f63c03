# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Values as TOML 1.0 (https://toml.io/en/v1.0.0).

Python reads TOML from 3.11 on and never writes it, and hosts need no library for this: what comes from a play is
text, numbers, truth values, lists and tables, and nothing else.
"""

from __future__ import annotations

import re

# A key that needs no quotes.
BARE = re.compile(r"\A[A-Za-z0-9_-]+\Z")

# What TOML promises that every reader takes: 64 bits, signed.
INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**63 - 1

SHORT = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


class TomlError(ValueError):
    """A value that TOML has no words for, and where it stands."""

    def __init__(self, path, why):
        at = ".".join(_key(word) if isinstance(word, str) else "[%d]" % word for word in path).replace(".[", "[")
        super().__init__("%s: %s" % (at or "the whole", why))


def dumps(table):
    """A table as the text of a file, always the same for the same values: keys are sorted, plain ones first.

    A value of None is left out, as YAML's `key:` with nothing behind it says nothing.
    """
    if not isinstance(table, dict):
        raise TomlError([], "a table is wanted, not %s" % _kind(table))
    lines = []
    _table(table, [], lines)
    return "\n".join(lines) + "\n" if lines else ""


def _table(table, path, lines):
    entries = sorted((_name(name, path), value) for name, value in table.items() if value is not None)
    plain = [(name, value) for name, value in entries if not isinstance(value, dict)]
    tables = [(name, value) for name, value in entries if isinstance(value, dict)]
    # The heading of a table that holds only tables is theirs as well.
    if path and (plain or not tables):
        if lines:
            lines.append("")
        lines.append("[%s]" % ".".join(_key(word) for word in path))
    for name, value in plain:
        lines.append("%s = %s" % (_key(name), _value(value, path + [name], True)))
    for name, value in tables:
        _table(value, path + [name], lines)


def _name(name, path):
    if not isinstance(name, str):
        raise TomlError(path, "a key must be a text, not %s; put it in quotes" % _kind(name))
    return name


def _key(name):
    return name if BARE.match(name) else _string(name, [name])


def _value(value, path, may_break):
    # Before numbers: to Python a truth value is one.
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise TomlError(path, "%d doesn't fit into 64 bits" % value)
        return str(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        return _lines(value, path) if may_break and "\n" in value[:-1] else _string(value, path)
    if isinstance(value, (list, tuple)):
        items = [_value(item, path + [at], False) for at, item in enumerate(value)]
        return "[%s]" % ", ".join(items)
    if isinstance(value, dict):
        # Within a list: a table on one line.
        entries = sorted((_name(name, path), item) for name, item in value.items() if item is not None)
        inner = ["%s = %s" % (_key(name), _value(item, path + [name], False)) for name, item in entries]
        return "{ %s }" % ", ".join(inner) if inner else "{}"
    if value is None:
        raise TomlError(path, "there is no nothing in a list; leave it out")
    raise TomlError(path, "there is no way to write %s" % _kind(value))


def _float(value):
    # Python says 0.1, 1e+16, inf and nan, as TOML does.
    return repr(value)


def _character(character, path):
    if character in SHORT:
        return SHORT[character]
    number = ord(character)
    if number < 0x20 or number == 0x7F:
        return "\\u%04X" % number
    if 0xD800 <= number <= 0xDFFF:
        raise TomlError(path, "half a character (U+%04X) is no text" % number)
    return character


def _string(text, path):
    return '"%s"' % "".join(_character(character, path) for character in text)


def _lines(text, path):
    """A text of several lines as such, for people who read the file, or a difference of it."""
    # Quotes and backslashes that are hard to tell from the syntax: such a text goes on one line.
    if "\\" in text or '"""' in text or text.endswith('"'):
        return _string(text, path)
    body = "".join(character if character in '\n"' else _character(character, path) for character in text)
    # The line break after the opening quotes isn't the text's.
    return '"""\n%s"""' % body


def _kind(value):
    words = {bool: "a truth value", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a table"}
    return words.get(type(value), "nothing" if value is None else "a %s" % type(value).__name__)
