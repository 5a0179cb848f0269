"""Scripts as redis-py uses them: registered ones, its Lock, and a pipeline with both."""

import threading

import redis

THREADS = 4
ROUNDS = 50


def test_a_lock_lets_one_in_at_a_time(port):
    counts = {"inside": 0, "entered": 0}

    def work():
        client = redis.Redis(port=port)
        for _ in range(ROUNDS):
            with client.lock("lock", timeout=60, sleep=0.001):
                counts["inside"] += 1
                assert counts["inside"] == 1
                counts["entered"] += 1
                counts["inside"] -= 1

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == {"inside": 0, "entered": THREADS * ROUNDS}


def test_a_registered_script_is_loaded_when_it_is_missing(port):
    client = redis.Redis(port=port, decode_responses=True)
    limiter = client.register_script("""
        local count = redis.call('INCR', KEYS[1])
        if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
        return count <= tonumber(ARGV[2]) and 1 or 0""")
    assert [limiter(keys=["limit"], args=[60_000, 3]) for _ in range(5)] == [1, 1, 1, 0, 0]
    client.script_flush()
    with client.pipeline() as pipeline:
        limiter(keys=["other"], args=[60_000, 3], client=pipeline)
        pipeline.get("other")
        assert pipeline.execute() == [1, "1"]
    assert 0 < client.pttl("limit") <= 60_000
