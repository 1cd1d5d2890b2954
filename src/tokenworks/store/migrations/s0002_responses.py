"""Responses that are kept, so that a later request can go on from one by its id.

Texts are JSON; `size` is of both, in bytes. `response_sizes` sums them up for each tenant.
"""

STATEMENTS = (
    """CREATE TABLE responses (
        id TEXT PRIMARY KEY,
        at DOUBLE PRECISION NOT NULL,
        tenant TEXT NOT NULL,
        holder TEXT NOT NULL,
        label TEXT NOT NULL,
        size BIGINT NOT NULL,
        response TEXT NOT NULL,
        items TEXT NOT NULL
    )""",
    "CREATE INDEX responses_by_time ON responses (at)",
    "CREATE INDEX responses_by_tenant ON responses (tenant, at)",
    """CREATE TABLE response_sizes (
        tenant TEXT PRIMARY KEY,
        size BIGINT NOT NULL
    ) $clustered""",
)
