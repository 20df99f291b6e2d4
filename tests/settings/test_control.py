from pathlib import Path

import pytest

from balancer.settings.control import control_socket
from balancer.settings.load import load, read
from balancer.settings.problems import SettingsError

_GOOD = '[listen.web]\naddress = "127.0.0.1:0"\n[pool.web]\ncommand = "app"\n'


@pytest.mark.parametrize(
    "admin", ["", '[admin]\ncontrol_socket = "run/a.sock"', '[admin]\ncontrol_socket = "/run/a.sock"']
)
@pytest.mark.parametrize("runtime", ["", "/run/balancer", "/run/balancer:/run/other"])
def test_it_is_where_the_settings_put_it(tmp_path: Path, admin: str, runtime: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(_GOOD + admin)
    settings = read(file.read_text(), str(file), on_this_machine=False, environ={"RUNTIME_DIRECTORY": runtime})
    assert str(control_socket(file, runtime)) == settings.control_socket


def test_a_byte_order_mark_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(b"\xef\xbb\xbf" + (_GOOD + '[admin]\ncontrol_socket = "run/a.sock"').encode())
    settings = load(file, on_this_machine=False)
    assert str(control_socket(file)) == settings.control_socket == str(tmp_path / "run/a.sock")


def test_a_faulty_file_still_has_one(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("[admin\n")
    assert control_socket(file) == tmp_path / "x.sock"
    with pytest.raises(SettingsError):
        control_socket(tmp_path / "none.toml")
