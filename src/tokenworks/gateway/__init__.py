"""Decides who answers a request, keeps the answer going and measures it.

Knows nothing about tensors, sockets of the engine or inbound HTTP.
"""
