"""The parts that the scripts are made of."""

import os

# numpy's linear algebra, which only a plot's correlations use, starts a thread for each core that spins for a tenth of a second.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
