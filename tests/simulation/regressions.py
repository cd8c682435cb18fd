"""Seeds that failed once, each with what they found. They run first.

What a seed means depends on `plan.py` and `farm.py`. Those with fewer than seven digits no longer have the plan that
they failed with: since then operators interrupt ventilators and make mistakes with inputs.
"""

REGRESSIONS: list[tuple[int, str]] = [
    (0, "the ventilator said its mark again with every message"),
    (8, "workers that died while the sink was away stayed in the ventilator's crew: a poison task was never given up"),
    (987, "a batch that begins with the same task counted as the one that a lost worker had started"),
    (271, "a page of receipts with failed tasks only ended `retry_failed`: they counted as done"),
    (796, "a sink that restarted while receipts were read made failed tasks count as done"),
    (1716, "a task to be run again was adopted at its old attempt, and no result at that was new"),
    (7489, "a job was opened again behind its close, and stayed open"),
    (1749, "a quarantine was receipted to a worker that had come back"),
    (3222, "a batch that is named with other bounds than a resumed ventilator has read was pushed again in part"),
    (9061, "the same, by a worker that came back while the batch waited for a crew"),
    (3858, "a slow input that is not at its end was scarce and not scarce in turns: a message to all for each turn"),
    (21634, "a late final failure of a run before `retry_failed` was receipted to the run after it"),
    (38370, "a quarantined task was recorded again by the worker that had been called lost"),
    (42583, "what a worker had returned was pushed a second time when it left"),
    (98705, "receipts went to a connection that was gone: what it had still to say came behind the new one's greeting"),
    (39494, "what a resumed ventilator read beyond a mark that was not committed was pushed again in part"),
    (1511207, "the check took an opening that came while one was written for the one that was answered"),
    (1510788, "the check looked for the crew of a job that was opened and cancelled in one turn"),
    (1510245, "the check believed that a ventilator was told of a beat which only came in the same poll"),
    (1510473, "a large job with a low --max-fails was halted a hundred times: more events than a seed may need"),
    (1559949, "the check took what a lost worker held of a forgotten job for that of the one which has its name now"),
]
