"""The `models` process: the bundled chat model, its embeddings, and the scorer that attribution asks.

It knows nothing of accounts, prices or records, and imports neither Django nor any other app.
"""
