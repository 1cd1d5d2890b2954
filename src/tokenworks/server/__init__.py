"""All inbound HTTP: the OpenAI-compatible API, health, metrics and the chat page.

Knows nothing about how an answer is computed.
"""
