"""recloop: a recommender that learns by reinforcement, run as a closed loop."""

__version__ = "0.1.0"
