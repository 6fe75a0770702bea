"""Where the text of a setting comes from: the environment, `.env`, a file that holds a secret.

Owns: precedence, empty means unset, `NAME_FILE`, names nobody knows. Must not: know what a setting means, or
read the process's own environment.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from dotenv.parser import parse_stream

from oscd.errors import StartRefused

PREFIX = "OSC_"
# Read by oscd's own client side and by people's scripts around it, so no mistake beside a server.
CLIENT_NAMES = frozenset(
    {
        "OSC_URL",
        "OSC_USER_KEY",
        "OSC_USER_KEY_FILE",
        "OSC_ACTOR",
        "OSC_CLIENT_CA_CERTS",
        "OSC_CLIENT_CERTFILE",
        "OSC_CLIENT_KEYFILE",
    }
)
_MOST_SECRET_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Given:
    """The text somebody gave a setting, and where: `environment`, `.env` or the name of a `_FILE` setting."""

    text: str
    source: str

    def __repr__(self) -> str:
        return f"Given(source={self.source!r})"


def given_texts(environ: Mapping[str, str], directory: Path) -> dict[str, Given]:
    """Collect every variable that is not empty; the environment wins over `directory/.env`.

    Raises:
        StartRefused: `.env` exists and cannot be read.
    """
    from_file = {name: Given(value, ".env") for name, value in _dotenv(directory / ".env") if value}
    from_environment = {name: Given(value, "environment") for name, value in environ.items() if value}
    return from_file | from_environment


def secret_from_file(name: str, texts: Mapping[str, Given], directory: Path) -> Given | None:
    """Read the secret that `{name}_FILE` points to, without the newlines that end it.

    Raises:
        StartRefused: The file cannot be read, is not UTF-8 or is larger than 64 KiB.
    """
    pointer = texts.get(f"{name}_FILE")
    if pointer is None:
        return None
    try:
        with (directory / pointer.text).open("rb") as file:
            content = file.read(_MOST_SECRET_BYTES + 1)
        if len(content) > _MOST_SECRET_BYTES:
            raise ValueError("is larger than 64 KiB")
        secret = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise StartRefused(f"{name}_FILE={pointer.text!r}: is not UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StartRefused(
            f"{name}_FILE={pointer.text!r}: {reason}; accepted is a file with the secret"
        ) from None
    return Given(secret, f"{name}_FILE") if secret else None


def unknown_name_warnings(texts: Mapping[str, Given], known: Collection[str]) -> Iterator[str]:
    """Yield one sentence for each `OSC_*` variable that is no setting, with the nearest that is."""
    for name in sorted(texts):
        if name.startswith(PREFIX) and name not in known and name not in CLIENT_NAMES:
            nearest = get_close_matches(name, known, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            yield f"{name} ({texts[name].source}) is not a setting of oscd and is ignored{hint}"


def _dotenv(path: Path) -> list[tuple[str, str]]:
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise StartRefused(f".env cannot be read: {reason}") from None
    pairs: list[tuple[str, str]] = []
    # Not dotenv_values: it skips a line that it cannot parse, and a setting would be lost in silence.
    for binding in parse_stream(io.StringIO(content)):
        if binding.error:
            raise StartRefused(f".env line {binding.original.line}: accepted is NAME=value")
        if binding.key is not None and binding.value is not None:
            pairs.append((binding.key, binding.value))
    return pairs
