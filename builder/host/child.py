"""A program that runs beside us: an emulator, a TPM, a broker. It ends when its owner does."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from appliance.core.errors import EdgesealError

_END_S = 20.0


class Child:
    """A started program. Standard output and standard error go to `log`; there is no standard input.

    Start it from a thread that lives as long as the program shall: bubblewrap ends it with the thread.
    """

    def __init__(self, command: Sequence[str | Path], *, reason: str, log: Path) -> None:
        """reason: why, as an infinitive clause; it becomes the error message. Raises EdgesealError."""
        self._words = [str(word) for word in command]
        self.reason = reason
        self.log = log
        with log.open("wb") as stream:
            try:
                self._process = subprocess.Popen(
                    self._words,
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # an interrupt at the terminal is for us; we end it in order
                    env={"LC_ALL": "C.UTF-8"},
                )
            except OSError as error:
                raise EdgesealError(f"cannot {reason}: {self._words[0]}: {error.strerror}") from error

    @property
    def exit_status(self) -> int | None:
        """None while it runs; else its exit status, or minus the signal that ended it."""
        return self._process.poll()

    def require_alive(self) -> None:
        """Raises EdgesealError with the last thing that the program said, when it has ended."""
        status = self.exit_status
        if status is not None:
            raise EdgesealError(
                f"cannot {self.reason}: it ended with {status}: {self.last_words()}",
                hint=f"rerun it by hand: {shlex.join(self._words)[:4000]}",
            )

    def last_words(self) -> str:
        """The last line of the log."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def wait(self, timeout_s: float) -> bool:
        """True when it has ended within `timeout_s`."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._process.kill()
        self._process.wait(_END_S)

    def stop(self) -> None:
        """Ask it to end, then kill it."""
        self._process.terminate()
        if not self.wait(_END_S):
            self.kill()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
