"""Env steps per second, learning included, beside RLlib's own, stable-baselines3 and plain loops in torch.

All learn in the market's ground truth, one item a request, by the same network, with the same batch,
minibatch, epochs, learning rate and gradient updates per env step; the benchmark checks the number of
parameters and of updates. Peers see an observation as one vector, which is their fastest form.
"""
