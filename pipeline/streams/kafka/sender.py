"""Sending single records outside of transactions."""

import threading
from typing import Self

from kafka import KafkaProducer

from pipeline.settings import Settings
from pipeline.streams.kafka.producer import connection, ensure_topics, reaching


class Sender:
    """Sends records to one topic, which is created before the first; safe to use from many threads. Costs nothing
    until then. Delivery: at least once.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._lock = threading.Lock()
        self._producer: KafkaProducer | None = None

    def send(self, key: bytes, value: bytes) -> None:
        """Send a record and wait until all replicas have it. Raise ServiceError."""
        with reaching(self._settings):
            with self._lock:
                if self._producer is None:
                    ensure_topics(self._settings, [self._topic])
                    self._producer = KafkaProducer(**connection(self._settings), acks="all", linger_ms=5)
            self._producer.send(self._topic, value, key).get(timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._producer is not None:
            self._producer.close(timeout=2)
