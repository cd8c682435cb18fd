"""The numbers of the page."""

PORT = 5550
"""Not among the ports that ventilators take."""
PERIOD_S = 1.0
"""How often the sink is asked."""
WORKERS_A_SECOND = 2_000
"""With more workers than this it is asked less often, because a report names them all."""
SILENT_S = 3.0
"""How long the sink may be silent before the page says so."""
WATCHED_S = 10.0
"""How long after somebody has looked the ledger is still read for the page."""
JOBS_PERIOD_S = 2.0
"""How often the list of all jobs is read while somebody looks."""
JOBS_PAUSE_FACTOR = 200
"""After a reading, the pause is at least this many times as long as the reading took."""
WINDOW_S = 3_600
"""How many seconds the chart of all jobs goes back."""
WINDOW_BUCKET_S = 10
RECEIPTS_A_PAGE = 20_000
READ_S = 0.3
"""How long the history of a job is read before the page is shown with what there is."""
SERIES_MAX = 200
"""For how many jobs the history is kept in memory."""
ROWS_SHOWN = 50
ROWS_IN_FRONT = 12
FAILURES_SHOWN = 20
SAMPLE = 500
"""How many tasks a histogram takes the run times of."""
VALUE_BYTES = 2_048
"""How much is shown of a value, an argument or a traceback."""
METRIC_JOBS_MAX = 100
"""At most how many jobs have metrics of their own."""
