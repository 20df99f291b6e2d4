"""The scanner against tomli: texts are written together with the line of each key, in every form that TOML has for them."""

import json
from typing import Any

import tomli
from hypothesis import given
from hypothesis import strategies as st

from balancer.settings.locate import Lines, locate
from balancer.settings.problems import Key


def test_every_form() -> None:
    text = (
        '''\
a = 1  # [not.a.table]
"q.u o" = """
b = 2
""""
[t.u]
x.y = [ # list
  1, {"z" = '},]', w = 2},
  """]"""
]
\t[[t.v]]
k = 2024-05-27 07:32:00
[[t.v]]
'k' = '''
        + "'''\n[x]\n'''"
        + """
[t.v.deep]
l = {}
"""
    )
    lines = Lines(text)
    lines.scan()
    expected: dict[Key, int] = {
        (): 1,
        ("a",): 1,
        ("q.u o",): 2,
        ("t",): 5,
        ("t", "u"): 5,
        ("t", "u", "x"): 6,
        ("t", "u", "x", "y"): 6,
        ("t", "u", "x", "y", 0): 7,
        ("t", "u", "x", "y", 1): 7,
        ("t", "u", "x", "y", 1, "z"): 7,
        ("t", "u", "x", "y", 1, "w"): 7,
        ("t", "u", "x", "y", 2): 8,
        ("t", "v"): 10,
        ("t", "v", 0): 10,
        ("t", "v", 0, "k"): 11,
        ("t", "v", 1): 12,
        ("t", "v", 1, "k"): 13,
        ("t", "v", 1, "deep"): 16,
        ("t", "v", 1, "deep", "l"): 17,
    }
    assert lines.known() == expected


_NAMES = st.text(alphabet="ab-_ .#\"'[]={}é\\", min_size=1, max_size=4)
_TEXTS = st.text(alphabet="ab\"'#[]{}=,\\\n\t é", max_size=8)
_LEAVES = st.one_of(st.integers(-9, 9), st.booleans(), _TEXTS)
_INLINE = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3), max_leaves=6
)
_TABLES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(_NAMES, _INLINE, max_size=3),
    lambda inner: st.dictionaries(
        _NAMES, st.one_of(_INLINE, inner, st.lists(inner, min_size=1, max_size=3).map(tuple)), max_size=4
    ),
    max_leaves=8,
)


class _Writer:
    """Writes a document, drawing the form of each part, and notes on which line it put every key."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.text = ""
        self.lines: dict[Key, int] = {(): 1}

    def put(self, text: str) -> None:
        self.text += text

    def note(self, key: Key) -> None:
        self.lines.setdefault(key, self.text.count("\n") + 1)

    def maybe(self) -> bool:
        return self.data.draw(st.booleans())

    def name(self, name: str) -> str:
        if name.isascii() and all(c.isalnum() or c in "-_" for c in name) and self.maybe():
            return name
        return f"'{name}'" if "'" not in name and self.maybe() else json.dumps(name)

    def gap(self) -> None:
        self.put(self.data.draw(st.sampled_from(["", "\n", "  \n", "# ] [x] a = 1\n", "\r\n"])))

    def table(self, key: Key, header: list[str], table: dict[str, Any]) -> None:
        later = []
        for name, value in table.items():
            if isinstance(value, tuple) or (isinstance(value, dict) and self.maybe()):
                later.append((name, value))
                continue
            self.gap()
            self.note((*key, name))
            self.put(f"{self.name(name)} = ")
            self.value((*key, name), _plain(value))
            self.put("  # comment\n" if self.maybe() else "\n")
        for name, value in later:
            for index, item in enumerate(value if isinstance(value, tuple) else (value,)):
                self.gap()
                path = [*header, self.name(name)]
                below: Key = (*key, name)
                self.note(below)
                if isinstance(value, tuple):
                    below = (*below, index)
                    self.note(below)
                    self.put(f"[[{' . '.join(path)}]]\n")
                else:
                    self.put(f"[{'.'.join(path)}]\n")
                self.table(below, path, item)

    def value(self, key: Key, value: Any) -> None:
        if isinstance(value, dict):
            self.put("{")
            for index, (name, item) in enumerate(value.items()):
                self.put(", " if index else "")
                self.note((*key, name))
                self.put(f"{self.name(name)}=")
                self.value((*key, name), item)
            self.put("}")
        elif isinstance(value, list):
            self.put("[")
            for index, item in enumerate(value):
                self.put("," if index else "")
                self.gap()
                self.note((*key, index))
                self.value((*key, index), item)
                self.gap()
            self.put("]")
        elif isinstance(value, str) and "'" not in value and "\n" in value and self.maybe():
            self.put(f"'''\n{value}'''")
        elif isinstance(value, str):
            escaped = json.dumps(value, ensure_ascii=False)
            self.put(f'""{escaped}""' if self.maybe() and value else escaped)
        else:
            self.put(json.dumps(value))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


@given(_TABLES, st.data())
def test_every_key_is_found_on_its_line(document: dict[str, Any], data: st.DataObject) -> None:
    writer = _Writer(data)
    writer.table((), [], document)
    assert tomli.loads(writer.text) == _plain(document)
    lines = Lines(writer.text)
    lines.scan()
    assert lines.known() == writer.lines


@given(st.text(alphabet="ab[]{}\"'=.,#\n ", max_size=30))
def test_it_ends_on_any_text(text: str) -> None:
    assert locate(text).of(("a", "b", 0)) >= 1
