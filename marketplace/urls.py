"""Every address of the site, by audience. Pages carry their language (/en/, /fr/); the API, receipts and files do not.

Each views module lists its own addresses: `pages` with a language, `plain` without.
"""

from django.conf import settings
from django.conf.urls.i18n import i18n_patterns
from django.urls import include, path

from datanets import media, tus
from datanets import views as datanet_views
from ledger import proofs as ledger_proofs
from ledger import views as ledger_views

from . import lognames
from .api import pages as api_pages
from .views import (
    account,
    admin,
    admin_accounts,
    admin_adjustments,
    admin_deposits,
    admin_payouts,
    admin_refunds,
    build_models,
    build_retire,
    contribute,
    datanet_acts,
    earn,
    earn_changes,
    earn_sums,
    explore,
    explore_datanet,
    explore_model,
    explore_playground,
    explore_record,
    gold,
    keys,
    noise,
    receipts,
    refunds,
    reports,
    sharing,
    sharing_money,
    site,
    split_rules,
    thefts,
    usage,
    wallet,
    webhooks,
)

urlpatterns = [
    path("healthz", site.healthz, name="healthz"),
    path("i18n/", include("django.conf.urls.i18n")),
    path("accounts/", include("allauth.urls")),
]

urlpatterns += i18n_patterns(
    *site.pages,
    *explore.pages,
    *datanet_acts.pages,
    *gold.pages,
    *explore_datanet.pages,
    *explore_playground.pages,
    *split_rules.pages,
    *explore_model.pages,
    *explore_record.pages,
    *reports.pages,
    *thefts.pages,
    *noise.pages,
    *build_models.pages,
    *build_retire.pages,
    *keys.pages,
    *usage.pages,
    *refunds.pages,
    *account.pages,
    *webhooks.pages,
    *contribute.pages,
    *datanet_views.pages,
    *earn.pages,
    *earn_changes.pages,
    *earn_sums.pages,
    *wallet.pages,
    *sharing.pages,
    *sharing_money.pages,
    *ledger_views.pages_with(lognames),
    *ledger_proofs.pages,
    *admin.pages,
    *admin_accounts.pages,
    *admin_adjustments.pages,
    *admin_payouts.pages,
    *admin_deposits.pages,
    *admin_refunds.pages,
)

urlpatterns += receipts.plain + ledger_proofs.plain

urlpatterns += api_pages.plain

urlpatterns += datanet_views.plain + tus.urlpatterns + media.urlpatterns

if settings.DEMO_STATE:
    urlpatterns += site.demo_only

handler400 = "marketplace.bodylimit.bad_request"
handler500 = "marketplace.views.site.server_error"
