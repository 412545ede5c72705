"""Who learns in ``benchmarks.training``, and what is measured of them."""
