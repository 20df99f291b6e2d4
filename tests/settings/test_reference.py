from pathlib import Path

import tomli

from balancer.settings.explain import tables
from balancer.settings.load import read
from balancer.settings.model import Certificate
from balancer.settings.reference import reference

_FULL = Path(__file__).parents[2] / "config/full.toml"


def test_the_file_is_what_the_model_says() -> None:
    assert _FULL.read_text() == reference(), "run: python -m balancer.settings.reference > config/full.toml"


def test_all_its_values_are_the_defaults() -> None:
    short = '[listen.web]\n[pool.web]\ncommand = "python -m http.server {port} --bind {host}"\n'
    assert read(_FULL.read_text(), on_this_machine=False) == read(short, on_this_machine=False)


def test_every_key_stands_in_it() -> None:
    lines = (line.removeprefix("#") for line in reference().splitlines() if not line.startswith("# "))
    document = tomli.loads("\n".join(lines))
    for header, section in tables():
        if section is Certificate:
            continue
        table = document
        for part in header.strip("[]").replace("NAME", "web").split("."):
            table = table[part]
            table = table[0] if isinstance(table, list) else table
        assert set(table) == set(section.model_fields), header


def test_it_fits_a_screen() -> None:
    assert max(map(len, reference().splitlines())) <= 124
