"""A check or a collection of an embedded hub, and what that took of this process's memory."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

from modelhub import connect
from modelhub.coordinator import keys

_SCANNED = (keys.INTENTS, keys.LOG, keys.PACKS)

if __name__ == "__main__":
    folder, verb = sys.argv[1:]
    with connect(folder) as hub:
        began_s = time.perf_counter()
        if verb == "gc":
            hub.gc(dry_run=True)
            took_s, found = time.perf_counter() - began_s, 0
            scans = [hub._ctx.stores.rows.scan(table, b"\0", b"\xff") for table in _SCANNED]
            rows = sum(1 for scan in scans for _ in scan)
        else:
            health = hub.fsck(data=verb == "data")
            took_s = time.perf_counter() - began_s
            rows, found = sum(health.checked.values()), len(health.findings)
    status = Path("/proc/self/status").read_text()
    peak_mib = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024
    print(json.dumps({"rows": rows, "findings": found, "took_s": took_s, "peak_mib": peak_mib}))
