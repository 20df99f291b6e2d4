"""What is asked for when a pool is to have another number of backends."""

import os

import pytest

from balancer.admin.operations import BadArguments
from balancer.settings.load import read
from balancer.settings.model_pool import Pool
from balancer.supervisor.scaling import counted, scaled


@pytest.mark.parametrize("word", ["auto", "max"])
def test_words_mean_one_for_each_cpu_that_we_may_use(word: str) -> None:
    mask = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(mask)})
    try:
        assert counted(word) == 1
    finally:
        os.sched_setaffinity(0, mask)
    assert 1 <= counted(word) <= len(mask)


def test_a_number_is_itself_and_other_words_are_none() -> None:
    assert (counted(7), counted(0)) == (7, 0)
    with pytest.raises(BadArguments, match="'lots' is not a number of backends"):
        counted("lots")


def test_none_is_refused_and_the_last_group_of_ours_takes_the_difference() -> None:
    with pytest.raises(BadArguments, match="0 is out of range; expected 1 to 1000 backends"):
        scaled(_pool('[pool.web]\ncommand = "a"\n'), 0)
    pool = scaled(_pool('[[pool.web.group]]\ncommand = "a"\nbackends = 2\n[[pool.web.group]]\ncommand = "b"\n'), 5)
    assert [group.backends for group in pool.group] == [2, 3]
    with pytest.raises(BadArguments, match=r"expected 3 to 1002 backends \(2 of them in other groups\)"):
        scaled(pool, 2)


def _pool(text: str) -> Pool:
    return read(f'[listen.web]\naddress = "127.0.0.1:1"\n{text}', on_this_machine=False).pool["web"]
