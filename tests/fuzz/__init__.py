"""Coverage-guided fuzzing of everything that reads bytes from strangers, by hand: `python -m tests.fuzz TARGET [-max_total_time=300]`.

Needs the extra `fuzz`. What it finds becomes a pair of files in tests/corpus, or a line in a test, and is mended then.
"""
