"""The addresses of uploads and pictures alone, as marketplace/urls.py mounts them."""

from datanets import media, tus

urlpatterns = [*tus.urlpatterns, *media.urlpatterns]
