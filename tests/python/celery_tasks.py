"""Tasks for a worker of Celery, which `test_celery` starts."""

import os

from celery import Celery

address = f"redis://127.0.0.1:{os.environ['SHARDIS_PORT']}"
app = Celery("celery_tasks", broker=f"{address}/0", backend=f"{address}/1")


@app.task
def add(one, other):
    return one + other


@app.task
def total(values):
    return sum(values)
