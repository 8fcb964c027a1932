"""Every address of the site, grouped by audience. Pages carry their language; the API, receipts and files do not."""

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
    path("", site.home, name="home"),
)

if settings.DEMO_STATE:
    urlpatterns += [
        path("dev/mail/", site.dev_mail, name="dev_mail"),
        path("dev/styleguide/", site.dev_styleguide, name="dev_styleguide"),
    ]
