"""redis-py keeps what it reads, and is told when it is old."""

import random
import threading
import time

import pytest
import redis
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection

PATIENCE_S = 60


@pytest.fixture(autouse=True)
def any_version(monkeypatch):
    """redis-py caches only with servers that say that they are Redis 7.4 at least; what it needs of them is older."""
    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.2.0")


def caching(port, **options):
    return redis.Redis(port=port, protocol=3, decode_responses=True, cache_config=CacheConfig(**options))


def calls(client, command):
    return client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]


def test_what_is_kept_is_not_asked_for_again(port):
    with caching(port) as client, redis.Redis(port=port, decode_responses=True) as other:
        other.set("k", "1")
        for _ in range(10):
            assert client.get("k") == "1"
        assert calls(other, "get") == 1
        assert client.get_cache().size == 1
        other.set("k", "2")
        client.ping()
        assert client.get("k") == "2"
        assert calls(other, "get") == 2
        # Its own changes count, too.
        client.set("k", "3")
        assert client.get("k") == "3"
        other.hset("h", "f", "v")
        assert client.hgetall("h") == {"f": "v"} and client.hgetall("h") == {"f": "v"}
        other.hdel("h", "f")
        client.ping()
        assert client.hgetall("h") == {}
        assert other.info("clients")["tracking_clients"] == 1
        assert other.info("stats")["tracking_total_keys"] == 2
        other.flushall()
        client.ping()
        assert client.get("k") is None


def test_what_is_over_is_not_kept(port):
    with caching(port) as client, redis.Redis(port=port, decode_responses=True) as other:
        other.set("k", "1", px=50)
        assert client.get("k") == "1"
        deadline = time.monotonic() + PATIENCE_S
        while client.get("k") is not None:
            assert time.monotonic() < deadline
        assert other.exists("k") == 0


def test_a_cache_is_never_older_than_what_was_answered(port):
    """One writer for each key: what it was answered is seen by every read that begins later."""
    keys = [f"k{number}" for number in range(12)]
    written = dict.fromkeys(keys, 0)
    is_over = threading.Event()
    failures = []

    def read(seed):
        chance = random.Random(seed)
        with caching(port) as client:
            while not is_over.is_set():
                key = chance.choice(keys)
                known = written[key]
                # What was told by then comes before the answer.
                client.ping()
                found = int(client.get(key) or 0)
                if found < known:
                    failures.append((key, found, known))

    readers = [threading.Thread(target=read, args=(seed,)) for seed in range(3)]
    for reader in readers:
        reader.start()
    with redis.Redis(port=port) as writer:
        for value in range(1, 400):
            one, two = random.Random(value).sample(keys, 2)
            if value % 3:
                writer.set(one, value)
                written[one] = value
            else:
                writer.mset({one: value, two: value})
                written[one] = written[two] = value
    is_over.set()
    for reader in readers:
        reader.join(PATIENCE_S)
        assert not reader.is_alive()
    assert not failures, failures[:3]
