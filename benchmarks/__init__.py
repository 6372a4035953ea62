"""One runnable file a bar: `python -m benchmarks.NAME [--json PATH]` prints a table and one JSON object.

`report.py` holds what they share; `results/` the figures of machines that the usual tests do not run on.
"""

import model  # noqa: F401  # sets OMP_WAIT_POLICY, which must be done before torch is imported
