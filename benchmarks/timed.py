"""Run one edgeseal command in this process and write how long each of its steps took, as JSON, to a file.

Usage: python -m benchmarks.timed RESULT WORDS…   The steps are those that a person sees at a terminal.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.host import progress

_STARTED = time.perf_counter()


def main(result: str, words: list[str]) -> int:
    """Returns the command's exit code. Steps inside of others are counted twice: in both."""
    found: list[dict[str, object]] = []

    @contextmanager
    def record(title: str) -> Iterator[None]:
        begun = time.perf_counter()
        yield
        found.append({"step": title, "seconds": time.perf_counter() - begun})

    progress.step = record  # before the modules that import it by name

    from builder.cli.main import main as edgeseal

    code = edgeseal(words)
    Path(result).write_text(json.dumps({"steps": found, "seconds": time.perf_counter() - _STARTED}))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
