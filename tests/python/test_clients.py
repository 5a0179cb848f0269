"""redis-py against the server: plain, in RESP2 and RESP3, pipelines, transactions, and cluster-aware."""

import random
import re
import threading
import time

import pytest
import redis
from redis.cluster import RedisCluster


def hops(client):
    """Requests that were sent on from one shard to another, over all shards."""
    text = client.execute_command("INFO", "shards")
    return sum(int(count) for count in re.findall(r"hops['\"]?[=:] ?(\d+)", str(text)))


@pytest.mark.parametrize("protocol", [2, 3])
def test_plain(port, protocol):
    with redis.Redis(port=port, protocol=protocol, decode_responses=True) as client:
        assert client.ping()
        assert client.set("k", "v", ex=1000)
        assert client.get("k") == "v"
        assert 990 < client.ttl("k") <= 1000
        assert client.mset({f"key:{i}": i for i in range(100)})
        assert client.mget("key:1", "key:99", "none") == ["1", "99", None]
        assert client.incrby("key:1", 41) == 42
        assert client.incrbyfloat("f", 0.5) == 0.5
        assert client.exists("k", "key:5", "none") == 2
        assert client.rename("key:7", "moved")
        assert client.get("moved") == "7"
        assert set(client.scan_iter(match="key:*", count=7)) == {f"key:{i}" for i in range(100) if i != 7}
        assert client.delete(*client.keys("key:*")) == 99
        assert client.dbsize() == 3
        with pytest.raises(redis.ResponseError, match="not an integer"):
            client.incr("k")


def test_connection_state(port):
    with redis.Redis(port=port, db=3, client_name="tester", decode_responses=True) as client:
        client.set("k", "v")
        assert client.client_getname() == "tester"
        assert any(other["name"] == "tester" and other["db"] == "3" for other in client.client_list())
        info = client.info()
        assert info["redis_version"].startswith("7.2.")
        assert info["db3"]["keys"] == 1
        assert client.config_get("maxmemory") == {"maxmemory": "0"}
        assert client.command_count() > 50
        assert client.move("k", 4) and not client.exists("k")


@pytest.mark.parametrize("transaction", [False, True])
def test_pipeline(port, transaction):
    with redis.Redis(port=port, decode_responses=True) as client:
        with client.pipeline(transaction=transaction) as pipe:
            for i in range(200):
                pipe.set(f"key:{i}", i).incr(f"key:{i}").get(f"key:{i}")
            replies = pipe.execute()
    assert replies[0::3] == [True] * 200
    assert replies[1::3] == [i + 1 for i in range(200)]
    assert replies[2::3] == [str(i + 1) for i in range(200)]


def test_transactions_of_several_clients(port):
    """Each moves one from one counter to another, on different shards; nothing is lost."""
    times, workers = 40, 4
    keys = ["k1", "k2", "k3", "k4"]
    with redis.Redis(port=port) as client:
        client.mset({key: 1000 for key in keys})

    def work(number):
        with redis.Redis(port=port) as client:
            for step in range(times):
                source, target = keys[(number + step) % 4], keys[(number + step + 1) % 4]

                def move(pipe):
                    have, had = int(pipe.get(source)), int(pipe.get(target))
                    pipe.multi()
                    pipe.mset({source: have - 1, target: had + 1})

                client.transaction(move, source, target)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with redis.Redis(port=port) as client:
        assert sum(int(value) for value in client.mget(keys)) == 4000


def test_cluster_client_reaches_every_shard_without_hops(shard_ports):
    with redis.Redis(port=shard_ports) as plain, RedisCluster(host="127.0.0.1", port=shard_ports) as cluster:
        assert len(cluster.get_primaries()) == 2
        assert cluster.set("warm", "up")
        before = hops(plain)
        for i in range(500):
            assert cluster.set(f"key:{i}", i)
        for i in range(500):
            assert cluster.get(f"key:{i}") == str(i).encode()
        with cluster.pipeline() as pipe:
            for i in range(500):
                pipe.incr(f"key:{i}")
            assert pipe.execute() == [i + 1 for i in range(500)]
        assert hops(plain) == before
        assert plain.dbsize() == 501
        # The same keys by way of a port that serves every key: half of them are another shard's.
        for i in range(100):
            plain.get(f"key:{i}")
        assert hops(plain) > before


def test_cluster_client_that_reads_from_replicas(shard_ports):
    """It says READONLY on each connection."""
    with RedisCluster(host="127.0.0.1", port=shard_ports, read_from_replicas=True) as cluster:
        for i in range(50):
            assert cluster.set(f"key:{i}", i)
        for i in range(50):
            assert cluster.get(f"key:{i}") == str(i).encode()
        for node in cluster.get_primaries():
            for command in ["ASKING", "READONLY", "READWRITE"]:
                assert cluster.execute_command(command, target_nodes=node)


def test_modules_are_listed(port):
    with redis.Redis(port=port) as client:
        assert client.module_list() == []
        with pytest.raises(redis.ResponseError, match="MODULE command not allowed"):
            client.module_load("/nosuch.so")


def test_scan_answers_what_stays_while_others_come_and_go(port):
    """Keys that a transaction or a RENAME takes away and puts back were never gone."""
    stays = {f"stays:{i}" for i in range(40)}
    with redis.Redis(port=port) as client:
        client.mset(dict.fromkeys(stays, 1))
    deadline = time.monotonic() + 3
    failures = []

    def churn(number):
        choose = random.Random(number)
        with redis.Redis(port=port) as client:
            while time.monotonic() < deadline:
                guest, key = f"guest:{number}:{choose.randrange(1000)}", choose.choice(sorted(stays))
                client.set(guest, 1, px=choose.randrange(1, 50))
                client.delete(f"guest:{number}:{choose.randrange(1000)}")
                client.set(f"new:{number}", 1)
                client.rename(f"new:{number}", key)
                with client.pipeline(transaction=True) as pipe:
                    pipe.delete(key).scan(0, count=20).set(key, 1).sort("nothing", by="weight_*").execute()

    def look():
        with redis.Redis(port=port, decode_responses=True) as client:
            while time.monotonic() < deadline and not failures:
                missed = stays - set(client.scan_iter(count=random.choice([5, 10, 1000])))
                if missed:
                    failures.append(missed)

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(2)]
    threads += [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
