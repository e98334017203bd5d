"""Kafka as a stream. The type checker holds its three parts against the door."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.streams import stream
    from pipeline.streams.kafka import member, producer, reader

    _PARTS: tuple[type[stream.Producer], type[stream.Member], stream.Reader] = (
        producer.Producer,
        member.Member,
        reader,
    )
