"""Guesses what comes next, so that one forward can verify several tokens of a sequence.

Knows tokens and what forwards cost; knows no pages, no executor, no text and no socket.
"""
