"""What `oscd config` and `.env.example` say of the settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oscd.cli.config import example_env, show_config
from oscd.server.settings import Settings, load_settings
from oscd.server.settings_table import TABLE

ROOT = Path(__file__).parents[2]
SECRET = "correct-horse-battery"


def test_secrets_are_masked_and_sources_told(tmp_path: Path) -> None:
    """Each setting is a line with its value and where that came from; a secret shows only that it is set."""
    (tmp_path / ".env").write_text("OSC_WORKERS=2\n")
    (tmp_path / "key").write_text(SECRET)
    environ = {
        "OSC_API_KEY": SECRET,
        "OSC_CLUSTER_KEY_FILE": "key",
        "OSC_HSOT": "x",
        "OSC_LOG_LEVEL": "debug",
    }
    shown = show_config(*load_settings(environ, tmp_path))
    assert SECRET not in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["OSC_API_KEY=********", "#", "environment"] in lines
    assert ["OSC_CLUSTER_KEY=********", "#", "OSC_CLUSTER_KEY_FILE"] in lines
    assert ["OSC_SSL_KEYFILE_PASSWORD=", "#", "default"] in lines
    assert ["OSC_WORKERS=2", "#", ".env"] in lines
    assert ["OSC_LOG_LEVEL=DEBUG", "#", "environment"] in lines
    assert "# warning: OSC_HSOT (environment) is not a setting of oscd" in shown


def test_the_json_form_says_the_same(tmp_path: Path) -> None:
    """A program reads the same values, sources and warnings."""
    settings, warnings = load_settings({"OSC_API_KEY": SECRET}, tmp_path)
    document = json.loads(show_config(settings, warnings, as_json=True))
    assert list(document["settings"]) == [row.name for row in TABLE.values()]
    assert document["settings"]["OSC_API_KEY"] == {"value": "********", "source": "environment"}
    assert document["warnings"] == warnings


def test_what_is_shown_can_be_read_back(tmp_path: Path) -> None:
    """The output, as a `.env`, gives the settings it shows."""
    environ = {
        "OSC_HOST_PORT": "0",
        "OSC_HTTPS_ENABLED": "yes",
        "OSC_MAX_LOG_BYTES": "2GiB",
        "OSC_CORS_ORIGINS": "https://a.example,https://b.example",
        "OSC_TRUSTED_PROXIES": "10.0.0.0/8,::1",
        "OSC_SSE_KEEPALIVE_INTERVAL": "0.5",
        "OSC_LOG_FILE": "/var/log/oscd.log",
    }
    settings, warnings = load_settings(environ, tmp_path)
    (tmp_path / ".env").write_text(show_config(settings, warnings))
    assert load_settings({}, tmp_path) == (settings, [])


def test_the_example_file_agrees_with_the_table() -> None:
    """`.env.example` is what the table says, letter for letter."""
    assert (ROOT / ".env.example").read_text(encoding="utf-8") == example_env()


def test_the_example_file_is_a_valid_dotenv_at_the_defaults(tmp_path: Path) -> None:
    """Uncommented, every line of the example is accepted and changes nothing."""
    lines = [line.removeprefix("#") for line in example_env().splitlines() if line.startswith("#OSC_")]
    assert len(lines) == len(TABLE)
    (tmp_path / ".env").write_text("\n".join(lines))
    assert load_settings({}, tmp_path) == (Settings(), [])


@pytest.mark.parametrize("row", TABLE.values(), ids=lambda row: row.name)
def test_every_setting_says_what_it_means(row: object) -> None:
    """No row of the table is without a meaning."""
    assert getattr(row, "meaning", "")
