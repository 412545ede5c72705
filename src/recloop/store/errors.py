"""What the store says when it cannot be used."""


class StoreError(RuntimeError):
    """The store cannot be opened or used; the message says what to do."""
