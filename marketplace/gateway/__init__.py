"""The paid path, `/v1/*`: OpenAI-compatible, a process of its own. `python -m marketplace.gateway --port P`.

It imports Django's settings and no model: what it knows comes from named SQL views (marketplace/sql/catalogue.sql), what
it writes goes through one SQL function (capture.sql). docs/gateway.md tells a call from beginning to end.
"""
