"""The parts that the scripts are made of."""

import gc
import os

# numpy's linear algebra, which only a plot's correlations use, starts a thread for each core that spins for a tenth of
# a second.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Imports make objects that stay, and records make no cycles. By default the collector would look through them at every
# 700th new object: a tenth of a second of each start, and a quarter of all CPU of a landing.
gc.set_threshold(100_000, 50, 50)
