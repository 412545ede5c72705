"""What agents without a network have in common: sizes have limits, and one learner is enough."""


class TableError(ValueError):
    """An agent that keeps numbers per item cannot be had at this size or with several learners."""


def alone(learners: int, algorithm: str) -> None:
    """Refuse more than one learner.

    Raises:
        TableError: there is more than one.
    """
    if learners > 1:
        raise TableError(
            f"{algorithm} updates its numbers in closed form, on one learner: set agent.num_learners to 0"
            " or 1"
        )
