"""The REST API under /api/v1/: the services and permissions of the pages, as JSON. Thin: parse, call, answer."""
