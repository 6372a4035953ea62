"""Dagster, and nothing but Dagster: assets, checks, sensor, schedule and the demo that materialises them all.

An asset's body calls one function of `pipelines/` (imported inside the body, so that loading the definitions imports no
torch) and turns its record into metadata. No maths lives here, and nothing else imports this package.
"""
