"""Where an answer of the broker is kept while it is received, so that it is copied less.

compatibility.py puts this into kafka-python's connections.
"""

import numpy as np

# An answer of which this much is still to come is received to where it stays; the rest through a buffer of this size.
BUFFER_BYTES = 256 * 1024


class Frame:
    """An answer for kafka-python's parser, instead of its KafkaBytes: written to the end, in order, then read."""

    def __init__(self, size: int) -> None:
        # Not cleared beforehand, as a bytearray would be.
        self._data = np.empty(size, np.uint8).data
        self._at = 0

    def __len__(self) -> int:
        return len(self._data)

    @property
    def rest(self) -> memoryview:
        """What is behind the current place."""
        return self._data[self._at :]

    def tell(self) -> int:
        return self._at

    def seek(self, at: int) -> None:
        self._at = at

    def write(self, data: bytes | memoryview) -> None:
        """Put the next bytes; those that were received in place are there already."""
        if type(data) is not memoryview or data.obj is not self._data.obj:
            self._data[self._at : self._at + len(data)] = data
        self._at += len(data)

    def read(self, nbytes: int | None = None) -> bytes | memoryview:
        """The next bytes, fewer at the end, or all that are left; if these are many they are not copied."""
        data = self.rest if nbytes is None else self.rest[:nbytes]
        self._at += len(data)
        return data.toreadonly() if nbytes is None and len(data) >= BUFFER_BYTES else bytes(data)
