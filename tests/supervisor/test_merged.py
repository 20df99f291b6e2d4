"""What a running balancer takes over of a new file, and what the file makes of slots."""

from balancer.settings.changes import changes
from balancer.settings.load import read
from balancer.settings.model import Settings
from balancer.supervisor.merged import mergeable
from balancer.supervisor.wanted import wanted_slots

OLD = """
[listen.web]
address = "127.0.0.1:8080"
pool = "web"
[listen.old]
address = "127.0.0.1:8081"
pool = "gone"
[proxy]
processes = 2
[pool.web]
command = "app {port}"
[pool.gone]
command = "app {port}"
[log]
format = "json"
"""
MORE = '[listen.more]\naddress = "127.0.0.1:81"\npool = "web"\n'
NEW = """
[listen.web]
address = "0.0.0.0:80"
pool = "web"
trusted_proxies = ["10.0.0.0/8"]
[listen.fresh]
address = "127.0.0.1:8082"
pool = "web"
[proxy]
processes = 4
header_timeout = "3s"
[pool.web]
command = "app2 {port}"
[log]
level = "debug"
"""


def settings(text: str) -> Settings:
    return read(text, on_this_machine=False)


def test_keys_that_need_a_restart_keep_their_old_value_and_the_others_are_new() -> None:
    old, new = settings(OLD), settings(NEW)
    merged = mergeable(old, new)
    # Nothing of what is left differs in a key that only a restart can change.
    assert not changes(old, merged).restart
    assert list(merged.listen) == ["web", "old", "fresh"]
    assert str(merged.listen["web"].address) == "127.0.0.1:8080"
    assert merged.listen["web"].trusted_proxies == ("10.0.0.0/8",)
    # Its pool is no longer there, and a reload must not leave a listener that leads nowhere unknown.
    assert merged.listen["old"].pool == ""
    assert (merged.proxy.processes, merged.proxy.header_timeout) == (2, 3.0)
    assert (merged.log.level, merged.log.format) == ("debug", "json")
    assert merged.pool == new.pool


def test_slots_are_numbered_through_the_groups() -> None:
    text = '[listen.web]\naddress = "127.0.0.1:1"\n[pool.web]\nports = "9000-9099"\n[[pool.web.group]]\ncommand = "a"\n'
    text += 'backends = 2\nweight = 3\n[[pool.web.group]]\naddress = "10.0.0.7:80"\nbackup = true\n'
    wanted = wanted_slots(settings(text).pool["web"])
    assert [slot.number for slot in wanted] == [0, 1, 2]
    assert [slot.care.weight for slot in wanted] == [3, 3, 1]
    assert [slot.launch.address for slot in wanted] == [None, None, ("10.0.0.7", 80)]
    assert wanted[0].launch.ports == (9000, 9099)
    assert wanted[2].care.backup


def test_who_accepts_on_a_listener_stays_as_it_was_bound() -> None:
    shared = '[listen.web]\naddress = "127.0.0.1:80"\npool = "web"\n[pool.web]\ncommand = "app"\nmode = "shared"\n'
    old, proxied = settings(shared), settings(shared.replace('"shared"', '"proxy"'))
    assert [change.key for change in changes(old, proxied).restart] == ["listen.web.pool", "pool.web.mode"]
    assert mergeable(old, proxied).mode("web") == "shared"
    # Nor may a listener go to a pool with another way.
    two = shared + '[pool.api]\ncommand = "app"\n[[route]]\npath = "/api"\npool = "api"\n'
    moved = settings(two.replace('pool = "web"', 'pool = "api"', 1) + '[[route]]\npath = "/"\npool = "api"\n' + MORE)
    assert "listen.web.pool" in [change.key for change in changes(settings(two), moved).restart]
    assert mergeable(settings(two), moved).listen["web"].pool == "web"
