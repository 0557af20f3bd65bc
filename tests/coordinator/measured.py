"""The command line; the last line on stderr is its process's peak of resident memory in KiB."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from modelhub.cli import main

if __name__ == "__main__":
    try:
        main()
    finally:
        # Not ru_maxrss: a child inherits the peak that its parent had before it began.
        status = Path("/proc/self/status").read_text()
        print(re.findall(r"VmHWM:\s+(\d+) kB", status)[0], file=sys.stderr)
