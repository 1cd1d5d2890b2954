"""Keys, limits, budgets, reservations, the ledger and the audit log.

Money is in micro-units of the currency, times are seconds since 1970 UTC, lists are JSON.
"""

STATEMENTS = (
    # What changed lately, for processes that keep a copy: they compare the number.
    "CREATE TABLE changes (topic TEXT PRIMARY KEY, number BIGINT NOT NULL)",
    "CREATE TABLE facts (name TEXT PRIMARY KEY, fact TEXT NOT NULL)",
    """CREATE TABLE audit (
        number BIGINT PRIMARY KEY,
        at_ms BIGINT NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT NOT NULL,
        details TEXT NOT NULL,
        hash TEXT NOT NULL
    )""",
    """CREATE TABLE keys (
        id TEXT PRIMARY KEY,
        digest TEXT NOT NULL UNIQUE,
        previous_digest TEXT,
        previous_until DOUBLE PRECISION,
        tenant TEXT NOT NULL,
        user_name TEXT NOT NULL,
        name TEXT NOT NULL,
        role TEXT NOT NULL,
        scopes TEXT NOT NULL,
        label TEXT NOT NULL,
        models TEXT NOT NULL,
        requests_per_minute BIGINT,
        tokens_per_minute BIGINT,
        priority_max BIGINT NOT NULL,
        created_at DOUBLE PRECISION NOT NULL,
        expires_at DOUBLE PRECISION,
        revoked_at DOUBLE PRECISION
    )""",
    """CREATE TABLE rate_limits (
        holder TEXT PRIMARY KEY,
        requests_per_minute BIGINT,
        tokens_per_minute BIGINT
    ) $clustered""",
    """CREATE TABLE budgets (
        holder TEXT NOT NULL,
        period TEXT NOT NULL,
        money BIGINT,
        tokens BIGINT,
        PRIMARY KEY (holder, period)
    ) $clustered""",
    # What a budget's holder has used in the period that starts then.
    """CREATE TABLE spending (
        holder TEXT NOT NULL,
        period TEXT NOT NULL,
        starts BIGINT NOT NULL,
        spent BIGINT NOT NULL,
        reserved BIGINT NOT NULL,
        spent_tokens BIGINT NOT NULL,
        reserved_tokens BIGINT NOT NULL,
        PRIMARY KEY (holder, period, starts)
    ) $clustered""",
    # Requests on their way. `lost`: booked in full because their gateway died.
    """CREATE TABLE reservations (
        request_id TEXT PRIMARY KEY,
        instance BIGINT NOT NULL,
        lost BIGINT NOT NULL,
        at DOUBLE PRECISION NOT NULL,
        tenant TEXT NOT NULL,
        user_name TEXT NOT NULL,
        key_id TEXT NOT NULL,
        model TEXT NOT NULL,
        backend TEXT NOT NULL,
        label TEXT NOT NULL,
        money BIGINT NOT NULL,
        tokens BIGINT NOT NULL,
        holds TEXT NOT NULL
    ) $clustered""",
    """CREATE TABLE requests (
        id TEXT PRIMARY KEY,
        at DOUBLE PRECISION NOT NULL,
        day TEXT NOT NULL,
        tenant TEXT NOT NULL,
        user_name TEXT NOT NULL,
        key_id TEXT NOT NULL,
        model TEXT NOT NULL,
        backend TEXT NOT NULL,
        tier TEXT NOT NULL,
        label TEXT NOT NULL,
        status TEXT NOT NULL,
        prompt_tokens BIGINT NOT NULL,
        cached_tokens BIGINT NOT NULL,
        completion_tokens BIGINT NOT NULL,
        reasoning_tokens BIGINT NOT NULL,
        tokens BIGINT NOT NULL,
        money BIGINT NOT NULL,
        reserved BIGINT NOT NULL,
        reserved_tokens BIGINT NOT NULL,
        energy_j DOUBLE PRECISION,
        first_token_ms DOUBLE PRECISION,
        gap_p50_ms DOUBLE PRECISION,
        gap_p99_ms DOUBLE PRECISION,
        attempts BIGINT NOT NULL,
        route TEXT NOT NULL
    )""",
    "CREATE INDEX requests_by_tenant ON requests (tenant, at)",
    "CREATE INDEX requests_by_time ON requests (at, id)",
    # Double entry: the rows of a request add up to zero.
    """CREATE TABLE entries (
        request_id TEXT NOT NULL,
        number BIGINT NOT NULL,
        account TEXT NOT NULL,
        money BIGINT NOT NULL,
        PRIMARY KEY (request_id, number)
    ) $clustered""",
)
