"""The tests; a package so that what they share (`tests.support`) and `python -m tests.benchmarks` can be imported."""
