"""Looks after what this machine runs on and runs: its devices and local processes.

Knows nothing about models, requests or HTTP.
"""
