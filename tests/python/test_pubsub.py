"""redis-py listens: its thread, its reconnecting, keyspace events, MONITOR."""

import queue
import threading
import time

import pytest
import redis

PATIENCE_S = 60


def listening(client, channels=(), patterns=()):
    """A subscription, and what it hears once somebody reads it."""
    heard = queue.Queue()
    subscription = client.pubsub(ignore_subscribe_messages=True)
    if channels:
        subscription.subscribe(**{channel: heard.put for channel in channels})
    if patterns:
        subscription.psubscribe(**{pattern: heard.put for pattern in patterns})
    return subscription, heard


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_thread_hears_all_in_order(port, protocol):
    with redis.Redis(port=port, protocol=protocol, decode_responses=True) as client:
        subscription, heard = listening(client, channels=["news"], patterns=["room:*"])
        thread = subscription.run_in_thread(sleep_time=0.01)
        try:
            eventually(lambda: client.pubsub_numsub("news") == [("news", 1)] and client.pubsub_numpat() == 1)
            publishers = [threading.Thread(target=publish, args=(port, number)) for number in range(3)]
            for publisher in publishers:
                publisher.start()
            for publisher in publishers:
                publisher.join()
            messages = [heard.get(timeout=PATIENCE_S) for _ in range(600)]
            for number in range(3):
                own = [m["data"] for m in messages if m["data"].startswith(f"{number}:")]
                assert own == [f"{number}:{i}" for i in range(200)]
            assert {m["type"] for m in messages} == {"message", "pmessage"}
        finally:
            thread.stop()
            thread.join(PATIENCE_S)
        assert not thread.is_alive()


def publish(port, number):
    with redis.Redis(port=port) as client:
        for i in range(200):
            channel = "news" if i % 2 else f"room:{number}"
            assert client.publish(channel, f"{number}:{i}") == 1


@pytest.mark.parametrize("protocol", [2, 3])
def test_it_comes_back_when_it_was_cut_off(port, protocol):
    with redis.Redis(port=port, protocol=protocol, decode_responses=True) as client:
        subscription, heard = listening(client, channels=["news"])
        for round_ in range(3):
            wait_for(lambda: client.pubsub_numsub("news") == [("news", 1)], subscription)
            assert client.publish("news", str(round_)) == 1
            wait_for(lambda: not heard.empty(), subscription)
            assert heard.get_nowait()["data"] == str(round_)
            assert client.client_kill_filter(_type="pubsub") == 1
        subscription.close()


def eventually(holds, pause=lambda: time.sleep(0.02)):
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail("it never came to pass")
        pause()


def wait_for(holds, subscription):
    """Reads meanwhile."""
    eventually(holds, lambda: subscription.get_message(timeout=0.05))


def test_keyspace_events(port):
    with redis.Redis(port=port, decode_responses=True) as client:
        client.config_set("notify-keyspace-events", "KEA")
        subscription, heard = listening(client, patterns=["__key*__:*"])
        wait_for(lambda: client.pubsub_numpat() == 1, subscription)
        client.set("k", "v", px=1)
        expected = [
            ("__keyspace@0__:k", "set"), ("__keyevent@0__:set", "k"),
            ("__keyspace@0__:k", "expire"), ("__keyevent@0__:expire", "k"),
            ("__keyspace@0__:k", "expired"), ("__keyevent@0__:expired", "k"),
        ]
        wait_for(lambda: heard.qsize() >= len(expected), subscription)
        assert [(m["channel"], m["data"]) for m in list(heard.queue)] == expected
        subscription.close()


def test_shard_channels(port):
    with redis.Redis(port=port, decode_responses=True) as client:
        subscription = client.pubsub(ignore_subscribe_messages=True)
        subscription.ssubscribe("orders")
        wait_for(lambda: client.pubsub_shardnumsub("orders") == [("orders", 1)], subscription)
        assert client.spublish("orders", "one") == 1
        assert client.publish("orders", "none") == 0
        heard = []
        eventually(lambda: heard, lambda: heard.extend(filter(None, [subscription.get_message(timeout=0.05)])))
        assert [(m["type"], m["data"]) for m in heard] == [("smessage", "one")]
        subscription.close()


def test_monitor(port):
    with redis.Redis(port=port, decode_responses=True) as client, client.monitor() as monitor:
        client.set("k", "a value")
        while True:
            line = monitor.next_command()
            if line["command"].startswith("SET"):
                break
        assert line["command"] == "SET k a value"
        assert line["db"] == 0 and line["client_type"] == "tcp"
