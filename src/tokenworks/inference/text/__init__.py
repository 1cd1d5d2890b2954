"""Turns text into tokens and tokens back into text.

Knows nothing about weights, requests or HTTP.
"""
