"""A small trained router: how likely a weak and a strong model answer a prompt rightly.

Knows nothing of backends, labels or requests: text in, probabilities and a choice out.
"""
