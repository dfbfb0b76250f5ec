"""Leadline that kills itself at a step: ``python -m tests.end_to_end.saboteur STEP WHERE ARGS…``.

The STEP-th line that it appends, of any stream, is its last: it dies ``before`` writing it, in the
middle (``torn``), or ``after``. Nothing else of Leadline is changed.
"""

from __future__ import annotations

import os
import signal
import sys
from io import FileIO

from leadline import journal
from leadline.cli.main import main


def arm(step: int, where: str) -> None:
    write_line = journal._write_line
    left = step

    def write(file: FileIO, line: bytes) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            written = {"before": 0, "torn": len(line) // 2, "after": len(line)}[where]
            file.write(line[:written])
            os.kill(os.getpid(), signal.SIGKILL)
        write_line(file, line)

    journal._write_line = write


if __name__ == "__main__":
    arm(int(sys.argv[1]), sys.argv[2])
    main(sys.argv[3:])
