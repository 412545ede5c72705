"""One slot: the BentoML service over one exported policy, how it is built, and how it is started."""
