from tokenworks.telemetry.metrics import Metrics


def test_series_add_up_per_model_and_gauges_are_of_the_moment() -> None:
    metrics = Metrics()
    for tokens in (2.0, 3.0):
        metrics.for_model("m").completion_tokens(tokens)
    metrics.for_model("m").first_token(0.02)
    metrics.request("/v1/models", 200)
    metrics.engine_restarted("m")
    metrics.exposition({"m": {"running": 9.0, "waiting": 5.0}})

    text = metrics.exposition({"m": {"running": 4.0, "unknown": 1.0}}).decode()

    assert 'tokenworks_completion_tokens_total{model="m"} 5.0' in text
    assert 'tokenworks_time_to_first_token_seconds_bucket{le="0.025",model="m"} 1.0' in text
    assert 'tokenworks_time_to_first_token_seconds_bucket{le="0.01",model="m"} 0.0' in text
    assert 'tokenworks_requests_total{route="/v1/models",status="200"} 1.0' in text
    assert 'tokenworks_engine_restarts_total{model="m"} 1.0' in text
    assert 'tokenworks_running{model="m"} 4.0' in text
    assert "tokenworks_waiting{" not in text
    assert "unknown" not in text


def test_two_sets_of_metrics_share_nothing() -> None:
    first, second = Metrics(), Metrics()
    first.request("/health", 200)

    assert b'route="/health"' not in second.exposition({})
