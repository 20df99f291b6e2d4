from balancer.settings.load import read
from balancer.settings.sample import sample


def test_the_starting_file_loads_and_so_does_what_it_suggests() -> None:
    assert read(sample()).pool["web"].backend_count == 2
    suggested = "\n".join(
        line[1:] if line.startswith("#") and line[1] != " " else line for line in sample().splitlines()
    )
    settings = read(suggested)
    assert settings.pool["web"].policy == "least-connections"
    assert settings.log.access == "stderr"
