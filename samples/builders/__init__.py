"""Builders of the embedded data. They may import pipelines and model; nothing imports them."""
