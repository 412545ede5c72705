"""Next-item prediction on published logs: ours beside baselines, by one protocol, in one run."""
