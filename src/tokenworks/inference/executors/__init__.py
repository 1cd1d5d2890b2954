"""Computes logits from tokens over a paged KV store: native kernels, plain numpy, or a script.

Knows nothing about requests, sampling or text.
"""
