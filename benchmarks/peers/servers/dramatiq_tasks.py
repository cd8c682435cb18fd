"""The Dramatiq actors; BENCH_REDIS names their broker."""

import os

import dramatiq
import redis
import work
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

broker = RedisBroker(url=os.environ["BENCH_REDIS"])
# A result may be waited for longer than the client's own time-out.
client = redis.Redis.from_url(os.environ["BENCH_REDIS"], socket_timeout=None)
broker.add_middleware(Results(backend=RedisBackend(client=client)))
dramatiq.set_broker(broker)
square = dramatiq.actor(work.square, actor_name="square", store_results=True)
sleep = dramatiq.actor(work.sleep, actor_name="sleep", store_results=True)
