"""Keeps what must survive a restart: the state folder and files that are never half written.

Knows nothing about models, requests or whatever else is stored.
"""
