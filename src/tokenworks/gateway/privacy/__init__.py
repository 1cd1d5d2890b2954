"""Finds personal data and credentials in text, and masks them so that they can be put back.

Knows nothing about backends, requests or HTTP.
"""
