"""What queueing theory says of many servers behind a policy, to hold a simulation against. Times in units of the mean service time.

`busy` is the load of each server, 0 to 1; all formulas are for Poisson arrivals and mean times in the system, service included.
"""

from math import exp, inf


def alone(busy: float, variation: float = 1.0) -> float:
    """M/G/1, which is what choosing at random makes of each server (Pollaczek–Khinchine). variation: squared, of the service times."""
    return 1 + busy / (1 - busy) * (1 + variation) / 2 if busy < 1 else inf


def in_turn(busy: float) -> float:
    """D/M/1: perfect turns over so many servers that each sees its arrivals evenly spaced; exponential service."""
    if busy >= 1:
        return inf
    root = 0.0
    for _ in range(10_000):
        root = exp(-(1 - root) / busy)
    return 1 / (1 - root)


def better_of_two(busy: float, choices: int = 2) -> float:
    """The supermarket model: the shorter of `choices` queues drawn at random, exponential service, many servers (Mitzenmacher 2001)."""
    if busy >= 1:
        return inf
    total, length, term = 0.0, 1, 1.0
    while term > 1e-12:
        term = busy ** ((choices**length - choices) / (choices - 1))
        total += term
        length += 1
    return total


def one_line(servers: int, busy: float, variation: float = 1.0) -> float:
    """M/G/k with one line for all: Erlang's C, and for other than exponential service the factor of Lee and Longton (1959)."""
    if busy >= 1:
        return inf
    offered = servers * busy
    blocking = 1.0  # Erlang's B, by its recursion
    for count in range(1, servers + 1):
        blocking = offered * blocking / (count + offered * blocking)
    waits = blocking / (1 - busy + busy * blocking)
    return 1 + waits / (servers * (1 - busy)) * (1 + variation) / 2
