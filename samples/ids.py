"""Names of the embedded speakers and people.

Consecutive ids whose hashes (pipelines/splits.py) hold out exactly two of each at any share between 0.2 and 0.4.
"""

SPEAKERS = tuple(f"speaker{i}" for i in range(15, 21))  # test: speaker18, speaker20
SUBJECTS = tuple(f"{i:04d}" for i in range(124, 132))  # test: 0125, 0129
