"""OpenAI's responses API: items in, items and typed events out, conversations that are kept here.

Knows nothing about how an answer is made.
"""
