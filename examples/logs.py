"""Count the lines of log files by level. The task is a path; the worker reads the file, so it must be there too.

python worker.py examples.logs
ls /var/log/*.log > logs.txt; python ventilator.py examples.logs:levels logs.txt
"""

import gzip
import re
from collections import Counter

LEVEL = re.compile(r"\b(DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|CRITICAL|FATAL)\b")


def levels(path: str) -> dict[str, int]:
    """How many lines of the file (plain or .gz) name each level; other lines count as "other"."""
    counts: Counter[str] = Counter()
    with gzip.open(path, "rt", errors="replace") if path.endswith(".gz") else open(path, errors="replace") as lines:  # noqa: PTH123
        for line in lines:
            match = LEVEL.search(line)
            counts[match[1] if match else "other"] += 1
    return dict(counts)
