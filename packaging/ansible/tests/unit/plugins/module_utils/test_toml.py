# Copyright: the Wharf authors
# SPDX-License-Identifier: MIT OR Apache-2.0
"""What is written as TOML is read as the same by Python's own reader."""

from __future__ import annotations

import math

import pytest
from ansible_collections.wharf.wharf.plugins.module_utils.toml import TomlError, dumps

try:
    import tomllib
except ImportError:  # Before Python 3.11.
    tomllib = pytest.importorskip("tomli")
hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

# The older name of exclude_categories, which Debian 12 knows as well.
TEXT = st.text(st.characters(blacklist_categories=["Cs"]))
# Quotes, backslashes and line breaks in every order, which chance alone seldom makes.
HARD = st.text(st.sampled_from(list("\"\\'\n\r\t\b\f\x00\x7f #=.[]{}au0é")))
INTEGER = st.integers(-(2**63), 2**63 - 1)
PLAIN = st.one_of(st.booleans(), INTEGER, st.floats(allow_nan=False), TEXT, HARD)
KEY = st.one_of(TEXT, HARD, st.sampled_from(["a", "a.b", "", "/data", "%i"]))
VALUE = st.recursive(
    PLAIN,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEY, inner, max_size=4)),
    max_leaves=20,
)


@hypothesis.given(st.dictionaries(KEY, VALUE))
@hypothesis.settings(max_examples=300, deadline=None)
def test_is_read_as_it_was(table):
    text = dumps(table)
    assert tomllib.loads(text) == table
    # The type is kept, too: 1 == True == 1.0 would not tell.
    assert repr(_sorted(tomllib.loads(text))) == repr(_sorted(table))
    assert dumps(tomllib.loads(text)) == text


@hypothesis.given(st.dictionaries(KEY, VALUE))
def test_order_does_not_matter(table):
    assert dumps(dict(reversed(list(table.items())))) == dumps(table)


def _sorted(value):
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(item) for item in value]
    return value


def test_reads_as_a_person_would_write_it():
    table = {
        "mounts": {"/data": {"volume": "db"}, "/in": {"bind": "/srv/in", "read-only": True}},
        "image": "db:17",
        "publish": ["127.0.0.1:5432:5432"],
        "environment": {"TZ": "Europe/Berlin", "LIMIT": 5},
        "nothing": None,
        "command": ["sh", "-c", "a\nb"],
        "limits": {},
        "health": {"command": "one\ntwo 'three' \"four\"\n"},
    }
    assert dumps(table) == (
        'command = ["sh", "-c", "a\\nb"]\n'
        'image = "db:17"\n'
        'publish = ["127.0.0.1:5432:5432"]\n'
        "\n[environment]\nLIMIT = 5\n"
        'TZ = "Europe/Berlin"\n'
        '\n[health]\ncommand = """\none\ntwo \'three\' "four"\n"""\n'
        "\n[limits]\n"
        '\n[mounts."/data"]\nvolume = "db"\n'
        '\n[mounts."/in"]\nbind = "/srv/in"\nread-only = true\n'
    )


def test_odd_numbers():
    read = tomllib.loads(dumps({"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1e300, "e": -0.0}))
    assert math.isnan(read["a"]) and read["b"] == math.inf and read["c"] == -math.inf and read["d"] == 1e300
    assert math.copysign(1, read["e"]) == -1


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"a": {"b": [1, None]}}, "a.b[1]: there is no nothing in a list"),
        ({"a": 2**63}, "a: 9223372036854775808 doesn't fit into 64 bits"),
        ({"a": {"/x y": object()}}, 'a."/x y": there is no way to write a object'),
        ({"a": {1: 2}}, "a: a key must be a text, not a number"),
        ({"a": "\ud800"}, "a: half a character (U+D800)"),
        ([], "the whole: a table is wanted, not a list"),
    ],
)
def test_what_there_are_no_words_for(table, says):
    with pytest.raises(TomlError) as error:
        dumps(table)
    assert says in str(error.value)
