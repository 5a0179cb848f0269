"""Celery, unmodified: tasks over the Redis broker, results over the Redis backend."""

import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
PATIENCE_S = 60
TASKS = 40

DRIVER = f"""
from celery import chain, chord, group
from celery_tasks import add, total
print(chain(add.s(2, 2), add.s(4), add.s(8))().get(timeout={PATIENCE_S}))
print(sum(group(add.s(number, number) for number in range({TASKS}))().get(timeout={PATIENCE_S})))
print(chord((add.s(number, 1) for number in range({TASKS})), total.s())().get(timeout={PATIENCE_S}))
"""


@pytest.fixture
def worker(port, tmp_path):
    environment = {**os.environ, "SHARDIS_PORT": str(port), "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--concurrency", "2", "--loglevel", "warning"]
    log = open(tmp_path / "worker.log", "wb")
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield environment
    finally:
        process.terminate()
        try:
            process.wait(timeout=PATIENCE_S)
        finally:
            process.kill()


def test_chains_groups_and_chords_come_to_their_ends(worker, tmp_path):
    answer = subprocess.run([sys.executable, "-c", DRIVER], cwd=tmp_path, env=worker, capture_output=True, timeout=3 * PATIENCE_S)
    worker_log = (tmp_path / "worker.log").read_text()
    assert answer.returncode == 0, answer.stderr.decode() + worker_log
    sums = [16, TASKS * (TASKS - 1), TASKS * (TASKS + 1) // 2]
    assert answer.stdout.decode().split() == [str(value) for value in sums]
