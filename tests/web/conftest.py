"""Who visits a shop: each module has its own ``shop``."""

import httpx
import pytest

from tests.web.shop_browser import agree


@pytest.fixture
def client(shop):
    with httpx.Client(base_url=shop.url, timeout=20) as client:
        yield client


@pytest.fixture
def member(client):
    """A client that agreed to everything but marketing."""
    agree(client, "service", "personalisation", "training")
    return client
