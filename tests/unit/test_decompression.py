"""Decompression gives what kafka-python's gives, and has a bound."""

import gzip
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard
from encoded_batches import CODECS, ENOUGH, Reader, build_compressed_batch, plain_batch
from hypothesis import given
from hypothesis import strategies as st
from kafka import codec
from kafka.errors import CorruptRecordError

from pipeline.streams.kafka.decompression import GZIP, LZ4, SNAPPY, ZSTD, TooLarge, decompress

THEIRS = {GZIP: codec.gzip_decode, LZ4: codec.lz4_decode, ZSTD: codec.zstd_decode}
ZEROS = bytes(1 << 20)


@pytest.mark.parametrize("kind", sorted(THEIRS))
@given(data=st.binary(max_size=3000), times=st.sampled_from([0, 1, 1000, 2000]))
def test_same_as_kafka_pythons(kind: int, data: bytes, times: int) -> None:
    """Of every codec, and over the size of a piece, the same bytes come out."""
    compressed = CODECS[kind](data * times)
    assert decompress(kind, memoryview(compressed)) == THEIRS[kind](compressed) == data * times


def test_streams_of_several_parts() -> None:
    """gzip members and zstd frames that follow on each other are read as one."""
    members = gzip.compress(b"a" * 10) + gzip.compress(b"b" * 10)
    assert decompress(GZIP, memoryview(members)) == b"a" * 10 + b"b" * 10
    frames = zstandard.compress(b"a" * 10) + zstandard.compress(b"b" * 10)
    assert decompress(ZSTD, memoryview(frames)) == b"a" * 10 + b"b" * 10


@pytest.mark.parametrize("kind", sorted(CODECS))
def test_the_bound(kind: int) -> None:
    """As much as the bound is read, one byte more is not, and only what is there is taken from memory."""
    if kind == 0:
        return
    compressed = memoryview(CODECS[kind](ZEROS * 3))
    decompress(kind, compressed, len(ZEROS) * 3)
    with pytest.raises(TooLarge, match=r"3,145,72[78]"):
        decompress(kind, compressed, len(ZEROS) * 3 - 1)
    assert decompress(SNAPPY, memoryview(codec.snappy_encode(ZEROS, xerial_compatible=False))) is None
    with pytest.raises(TooLarge):
        decompress(SNAPPY, memoryview(codec.snappy_encode(ZEROS, xerial_compatible=False)), len(ZEROS) - 1)


def zstd_of(size: int) -> bytes:
    """As many zeros, compressed piece by piece."""
    compressor = zstandard.ZstdCompressor().compressobj()
    return b"".join(compressor.compress(ZEROS) for _ in range(size // len(ZEROS))) + compressor.flush()


@pytest.mark.parametrize("kind", [GZIP, ZSTD])
def test_a_bomb_takes_no_memory(kind: int) -> None:
    """A batch of 500 MB of zeros is refused by its offsets, within the bound's memory, and what precedes it is read."""
    size = 500 << 20
    bomb = zstd_of(size) if kind == ZSTD else gzip.compress(bytes(size), 1)
    reader = Reader(stock=False)
    reader.answer(plain_batch(0, ENOUGH) + build_compressed_batch(bomb, 10, ENOUGH, 9, compression=kind))
    assert len(reader.poll_records()) == ENOUGH
    tracemalloc.start()
    try:
        with pytest.raises(CorruptRecordError, match=r"offsets 100 to 109 decompresses to more than the 134,217,728"):
            reader.poll_records()
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()
    assert reader.position == ENOUGH


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: data[:20] + b"\1" + data[21:], lambda _: b""])
@pytest.mark.parametrize("kind", [kind for kind in sorted(CODECS) if kind])
def test_damaged_data_says_what_kafka_pythons_says(kind: int, damage: Callable[[bytes], bytes]) -> None:
    """Compressed records that are cut off, changed or not there give the error that kafka-python gives."""
    payload = damage(CODECS[kind](b"some text, and some more of it " * 20))
    found = []
    for stock in (True, False):
        reader = Reader(stock=stock)
        found.append(reader.read(build_compressed_batch(payload, ENOUGH, 0, ENOUGH - 1, compression=kind)))
    assert found[0] == found[1]
