"""Web: the storefront and the dashboard, and the process that serves them with the gateway."""

from recloop.web.app import create

__all__ = ["create"]
