"""The parts that the scripts are made of."""

import gc
import os
import signal
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

# numpy's linear algebra, which only a plot's correlations use, starts a thread for each core that spins for a tenth of
# a second.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Imports make objects that stay, and records make no cycles. By default the collector would look through them at every
# 700th new object: a tenth of a second of each start, and a quarter of all CPU of a landing.
gc.set_threshold(100_000, 50, 50)

# The name of a script of ours that is starting; `python -m` has none until all is imported.
_SCRIPT = Path(sys.argv[0] if sys.argv else "")
_IS_OURS = (
    _SCRIPT.name in ("-m", "producer.py", "consumer.py", "glue_setup.py")
    or _SCRIPT.name.startswith("stock-")
    or (_SCRIPT.name == "__main__.py" and _SCRIPT.is_relative_to(Path(__file__).parent.parent / "dashboards"))
)
if _IS_OURS and find_spec("msgspec") is None:
    sys.exit(
        f"{sys.executable} has none of the packages that this needs: `make venv` installs them into .venv, and "
        "`. .venv/bin/activate` enters it"
    )

# Ctrl-C while a script still imports ends it at once and without a traceback; terminal.run() sets it right. Programs of
# others, which import this package, keep theirs.
if (
    _IS_OURS
    and threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
