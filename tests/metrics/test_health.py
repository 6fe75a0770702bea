"""How a node itself is, as gauges: what is known has a sample, and what is not has none."""

from __future__ import annotations

from oscd.metrics.health import Health, Space, health_gauges


def shown(health: Health) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and the values of its labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in health_gauges(health)
        for sample in family.samples
    }


def test_what_is_known_is_shown() -> None:
    """Bytes, seconds and truth as numbers, one sample a certificate and a worker."""
    health = Health(
        is_log_writable=False,
        space=Space(log=10, free=20, room=5),
        certificates={"serving": 1_800_000_000.0, "peers": 1_900_000_000.0},
        beat_ages={0: 0.5, 3: 12.0},
    )
    assert shown(health) == {
        ("osc_log_writable",): 0,
        ("osc_log_size_bytes",): 10,
        ("osc_log_free_bytes",): 20,
        ("osc_log_room_bytes",): 5,
        ("osc_certificate_expiry_timestamp_seconds", "serving"): 1_800_000_000,
        ("osc_certificate_expiry_timestamp_seconds", "peers"): 1_900_000_000,
        ("osc_worker_beat_age_seconds", "0"): 0.5,
        ("osc_worker_beat_age_seconds", "3"): 12,
    }
    assert shown(Health(is_log_writable=True))["osc_log_writable",] == 1


def test_what_is_not_known_has_no_sample() -> None:
    """No number stands in for it: an alert on 0 would tell of trouble that nobody has seen."""
    assert shown(Health()) == {}
