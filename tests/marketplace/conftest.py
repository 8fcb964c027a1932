"""What several tests of the shop start from."""

import pytest

from tests.marketplace.receiver import Receiver


@pytest.fixture
def receiver(settings):
    """A program of somebody's that hears webhooks."""
    running = Receiver().start()
    settings.WEBHOOK_ALLOW = [running.authority]
    yield running
    running.stop()
