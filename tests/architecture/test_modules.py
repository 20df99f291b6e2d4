"""The shape of a module, and what never stays in one."""

import ast
import re

from tests.architecture.source import ROOT, modules

LONGEST = 350  # lines

# Module → why it may be longer.
LONGER: dict[str, str] = {}


def test_no_module_is_too_long() -> None:
    lengths = {module.name: module.text.count("\n") for module in modules()}
    too_long = {name: lines for name, lines in lengths.items() if lines > LONGEST and name not in LONGER}
    assert not too_long, "two modules in one file, or a reason in LONGER"
    assert {name for name in LONGER if lengths.get(name, 0) <= LONGEST} == set(), "no exception needed any more"


def test_every_module_says_what_it_owns() -> None:
    assert [module.name for module in modules() if not ast.get_docstring(module.tree)] == []


def test_nothing_is_left_for_later() -> None:
    mark = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX)\b|NotImplemented" + "Error")
    own = [*ROOT.glob("balancer/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("deploy/**/*"), ROOT / "README.md"]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in own
        if path.is_file()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if mark.search(line)
    ]
    assert found == []


def test_no_drawer_for_odds_and_ends() -> None:
    banned = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}
    assert [module.name for module in modules() if banned & set(module.name.split("."))] == []
