"""Who may use how much and what it cost: keys, limits, budgets, prices with dates, the one ledger.

Knows nothing about requests' insides: it counts tokens and money, and never sees a text.
"""
