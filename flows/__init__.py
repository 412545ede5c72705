"""Prefect flows: retrain, release, ingest, monitor, and the demo of them all."""
