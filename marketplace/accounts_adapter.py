"""Where allauth asks the shop."""

from allauth.account.adapter import DefaultAccountAdapter
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings

from . import listings, people

RESERVED_HANDLES = frozenset(
    "admin api www help support static media dev docs models datanets ledger people earnings review build settings "
    "accounts r v1 en fr openledger platform root security status".split()
)


class AccountAdapter(DefaultAccountAdapter):
    def clean_username(self, username, shallow=False):
        """Handles stand in URLs: lower case, and never a word that the site uses itself."""
        username = super().clean_username(username.lower(), shallow=shallow)
        if (
            username in RESERVED_HANDLES
            or username == settings.PLATFORM_HANDLE
            or username.startswith((people.CLOSED_PREFIX, people.WALLET_PREFIX))
        ):
            raise self.validation_error("username_blacklisted")
        return username

    def confirm_email(self, request, email_address):
        """Who opens the letter owns the address: an account that only claimed it loses it, as one address is one account."""
        confirmed = super().confirm_email(request, email_address)
        if confirmed:
            people.release_address(email_address.email, owner=email_address.user)
        return confirmed

    def post_login(self, request, user, **facts):
        """Go on in the language of the account, whatever the visitor's browser asks for."""
        response = super().post_login(request, user, **facts)
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            user.language,
            secure=settings.SESSION_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )
        return response


class SecondFactorAdapter(DefaultMFAAdapter):
    """Authenticator secrets and recovery seeds lie encrypted in the database; passkeys are bound to the site's name."""

    def encrypt(self, text):
        return listings.seal_field(text)

    def decrypt(self, encrypted_text):
        return listings.open_field(encrypted_text)

    def get_public_key_credential_rp_entity(self):
        return super().get_public_key_credential_rp_entity() | {"name": settings.SITE_NAME}
