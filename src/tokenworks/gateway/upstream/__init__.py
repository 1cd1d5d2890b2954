"""Backends that are reached by HTTP: other engines, other nodes, clouds.

Knows nothing of who asks, of budgets, or of which backend a request should go to.
"""
