"""Leadline that kills itself at a step: ``python -m tests.end_to_end.saboteur STEP WHERE ARGS…``.

The STEP-th line that it appends, of any stream, is its last, or the first that holds STEP as a
string: it dies ``before`` writing it, in the middle (``torn``), or ``after``. Nothing else of
Leadline is changed.
"""

from __future__ import annotations

import os
import signal
import sys
from io import FileIO

from leadline import journal
from leadline.cli.main import main


def arm(step: str, where: str) -> None:
    write_line = journal._write_line
    lines = 0

    def is_last(line: bytes) -> bool:
        nonlocal lines
        lines += 1
        return lines == int(step) if step.isdigit() else f'"{step}"'.encode() in line

    def write(file: FileIO, line: bytes) -> None:
        if is_last(line):
            written = {"before": 0, "torn": len(line) // 2, "after": len(line)}[where]
            file.write(line[:written])
            os.kill(os.getpid(), signal.SIGKILL)
        write_line(file, line)

    journal._write_line = write


if __name__ == "__main__":
    arm(sys.argv[1], sys.argv[2])
    main(sys.argv[3:])
