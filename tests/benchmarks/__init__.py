"""How fast, beside the peers: `python -m tests.benchmarks [rows…] [--seconds 3] [--repeat 3] [--only balancer,nginx]`.

One proxy process or thread per peer, pinned to one core; origin and load generator on another. Runs of the peers alternate,
medians are reported, and a row in which anything went wrong is void. Let nothing else run meanwhile.
"""
