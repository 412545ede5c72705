"""Features: one specification, fitted on logs, that training and serving share.

``recloop.features.build`` makes them from a clean snapshot; it needs Polars and SciPy, and a slot does not.
"""

from recloop.features.spec import FeatureSpec
from recloop.features.steps import Acts, Catalogue, FeaturesError, Steps

__all__ = ["Acts", "Catalogue", "FeatureSpec", "FeaturesError", "Steps"]
