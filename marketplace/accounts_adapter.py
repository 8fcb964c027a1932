"""Where allauth asks the shop."""

from allauth.account.adapter import DefaultAccountAdapter
from django.conf import settings

RESERVED_HANDLES = frozenset(
    "admin api www help support static media dev docs models datanets ledger people earnings review build settings "
    "accounts r v1 en fr openledger platform root security status".split()
)


class AccountAdapter(DefaultAccountAdapter):
    def clean_username(self, username, shallow=False):
        """Handles stand in URLs: lower case, and never a word that the site uses itself."""
        username = super().clean_username(username.lower(), shallow=shallow)
        if username in RESERVED_HANDLES or username == settings.PLATFORM_HANDLE:
            raise self.validation_error("username_blacklisted")
        return username
