"""Looks after what this machine runs on and runs: today, local processes.

Knows nothing about models, requests or HTTP.
"""
