import pytest


@pytest.fixture(autouse=True)
def no_limits(settings):
    """Tests sign in more often than a person; the tests of the limits turn them on."""
    settings.ACCOUNT_RATE_LIMITS = False
