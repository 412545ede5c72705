"""Benchmarks against named peers: ``python -m benchmarks.NAME [--quick] [--json FILE]``.

``python -m benchmarks.all OUT`` runs them all, ``python -m benchmarks.report OUT`` writes docs/benchmarks.md.
"""
