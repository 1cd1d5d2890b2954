"""Anthropic's messages API, in front of the same gateway: reads, converts and answers in its shape.

Knows nothing about how an answer is made.
"""
