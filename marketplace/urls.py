"""Every address of the site, by audience. Pages carry their language (/en/, /fr/); the API, receipts and files do not.

Each views module lists its own addresses: `pages` with a language, `plain` without.
"""

from django.conf import settings
from django.conf.urls.i18n import i18n_patterns
from django.urls import include, path

from .views import site

urlpatterns = [
    path("healthz", site.healthz, name="healthz"),
    path("i18n/", include("django.conf.urls.i18n")),
    path("accounts/", include("allauth.urls")),
]

urlpatterns += i18n_patterns(
    *site.pages,
)

if settings.DEMO_STATE:
    urlpatterns += site.demo_only

handler500 = "marketplace.views.site.server_error"
