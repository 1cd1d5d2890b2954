"""Finds model files, checks them and gives their weights and configuration.

Knows nothing about executors, requests or text.
"""
