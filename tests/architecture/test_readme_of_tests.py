"""What tests/README.md says shows something is there: every row, every file, every test."""

import re

from tests.architecture.source import ROOT

FOLDER = ROOT / "tests"
README = (FOLDER / "README.md").read_text()
LINK = re.compile(r"\[([^\]]+)\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def test_every_row_is_there() -> None:
    rows = re.findall(r"^\| (D?\d+) \|", README, re.M)
    assert rows == [str(number) for number in range(1, 53)] + [f"D{number}" for number in range(1, 11)]


def test_every_row_has_a_test_or_says_why_not() -> None:
    empty = []
    for number, cell in re.findall(r"^\| (D?\d+) \| [^|]+ \| (.+) \|$", README, re.M):
        if not re.search(r"\]\([\w/]+\.py\)", cell) and not re.match(r"– \w+ \w+", cell):
            empty.append(number)
    assert empty == []


def test_every_link_leads_to_what_it_names() -> None:
    wrong = []
    for name, target in LINK.findall(README):
        path = FOLDER / target
        if not path.exists() or (name.startswith("test_") and f"def {name}(" not in path.read_text()):
            wrong.append(f"{name}: {target}")
    assert wrong == []


def test_places_in_the_readme_exist() -> None:
    headings = re.findall(r"^#+ (.+)$", (ROOT / "README.md").read_text(), re.M)
    places = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    named = re.findall(r"\(\.\./README\.md#([^)]+)\)", README)
    assert named
    assert [place for place in named if place not in places] == []
