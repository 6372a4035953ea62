"""One file a verb, in lineage order: ingest, cut, landmarks, fit, audio_features, scans, shards, train, evaluate,
baseline, speak, report. Knows paths, never Dagster (only `pipes.py` may import `dagster_pipes`).
"""

import model  # noqa: F401  # sets OMP_WAIT_POLICY, which must be done before torch is imported
