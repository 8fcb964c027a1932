"""Pages and fragments of the data side: sending data, reviewing it. What shows an amount is marketplace's."""

from datanets import media, tus

from . import contribute, review

pages = [*contribute.pages, *review.pages]
plain = [*tus.urlpatterns, *media.urlpatterns]
