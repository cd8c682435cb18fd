"""Seeds that failed once, each with what they found. They run first."""

REGRESSIONS: list[tuple[int, str]] = [
    (0, "the ventilator said its mark again with every message"),
    (8, "workers that died while the sink was away stayed in the ventilator's crew: a poison task was never given up"),
    (987, "a batch that begins with the same task counted as the one that a lost worker had started"),
    (1749, "a quarantine was receipted to a worker that had come back"),
]
