"""The Celery application; BENCH_REDIS names its broker."""

import os

import work
from celery import Celery

app = Celery("bench", broker=os.environ.get("BENCH_REDIS"), backend=os.environ.get("BENCH_REDIS"))
app.conf.update(worker_prefetch_multiplier=1, broker_connection_retry_on_startup=True)
square = app.task(work.square, name="square")
sleep = app.task(work.sleep, name="sleep")
