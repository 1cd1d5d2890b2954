"""The engine: from a prompt's tokens to an answer's tokens, for many requests at once.

Knows nothing about HTTP, tenants or where a request came from.
"""
