"""`python -m tests.fuzz TARGET [libFuzzer's options]`."""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["balancer.http1", "balancer.net.proxy_protocol"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Fuzz until a finding, or for as long as the options say."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        raise SystemExit(f"usage: python -m tests.fuzz {'|'.join(TARGETS)} [-max_total_time=SECONDS] [-runs=N]")
    holds, seeds, words = TARGETS[sys.argv[1]]
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, seed in enumerate(seeds()):
            (corpus / str(number)).write_bytes(seed)
        dictionary = Path(folder, "words")
        dictionary.write_text("".join(f'"{_escaped(word)}"\n' for word in words))
        arguments = [sys.argv[0], str(corpus), f"-dict={dictionary}", "-max_len=4096", "-timeout=5", *sys.argv[2:]]
        atheris.Setup(arguments, holds)
        atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(chr(byte) if 32 < byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main()
