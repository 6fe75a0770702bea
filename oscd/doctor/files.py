"""Owns who may read and write the files of a node. Looks at their modes, never into them."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from oscd.doctor.finding import Finding, fail, ok, warn
from oscd.errors import StartRefused
from oscd.events.salt import salt_warning
from oscd.server.settings import Settings
from oscd.server.settings_sources import Given, given_texts
from oscd.server.settings_table import TABLE

_OTHERS: Final = 0o007
_GROUP_AND_OTHERS: Final = 0o077


def directory(settings: Settings) -> Iterator[Finding]:
    """The directory of the log: a node makes files there, and whoever may as well can replace the log."""
    path, name = settings.database_path.resolve().parent, "directory"
    if not path.is_dir():
        yield fail(name, f"{path}: there is no such directory", "make it, for the user of the node alone")
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if not os.access(path, os.W_OK | os.X_OK):
        yield fail(
            name, f"{path}: this user ({_user(os.geteuid())}) may not make files there", "chown or chmod it"
        )
    elif mode & 0o002 and not mode & stat.S_ISVTX:
        yield fail(name, f"{path}: mode is {mode:04o}, so anybody may replace the log", "chmod o-w it")
    elif mode & 0o022:
        yield warn(
            name, f"{path}: mode is {mode:04o}, so others than its owner make files there", "chmod 700 it"
        )
    else:
        yield ok(name, f"{path}: this user may write, others may not")


def database(settings: Settings) -> Iterator[Finding]:
    """The file of the log."""
    path, name = settings.database_path, "database"
    if not path.exists():
        yield ok(name, f"{path}: there is none yet; the first start makes it")
        return
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        yield fail(name, f"{path}: is no file", "point OSC_DATABASE_PATH at one")
    elif not os.access(path, os.R_OK | os.W_OK):
        yield fail(
            name, f"{path}: this user ({_user(os.geteuid())}) may not read and write it", "chown or chmod it"
        )
    elif mode & _GROUP_AND_OTHERS:
        yield warn(name, f"{path}: mode is {mode:04o}, so others than its owner may use it", "chmod 600 it")
    elif status.st_uid != os.geteuid():
        owner, self = _user(status.st_uid), _user(os.geteuid())
        yield warn(
            name, f"{path} belongs to {owner}, this is {self}", f"ask as the node's user: sudo -u {owner} …"
        )
    else:
        yield ok(name, f"{path}: for this user alone")


def salt_file(settings: Settings) -> Iterator[Finding]:
    """The salt's file; whether it is the right salt is another question."""
    path, name = settings.salt_file_path, "salt file"
    if not os.path.lexists(path):
        yield ok(name, f"{path}: there is none yet")
    elif not os.access(path, os.R_OK):
        yield fail(name, f"{path}: this user ({_user(os.geteuid())}) may not read it", "chown or chmod it")
    else:
        loose = salt_warning(path)
        yield ok(name, f"{path}: for its owner alone") if loose is None else warn(name, loose)


def secret_files(
    settings: Settings, environ: Mapping[str, str], working_directory: Path
) -> Iterator[Finding]:
    """Every other file that holds a secret. A group may read them, as that is how services are given theirs."""
    name = "secret files"
    paths = _secret_paths(settings, given_texts(environ, working_directory), working_directory)
    loose = False
    for setting, path in paths.items():
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as error:
            raise StartRefused(f"{setting}={path}: {error.strerror}") from None
        if mode & _OTHERS:
            loose = True
            yield warn(name, f"{setting}={path}: mode is {mode:04o}, so anybody may use it", "chmod o= it")
    if not loose:
        yield ok(name, f"{len(paths)} of them, closed to others" if paths else "there are none")


def _secret_paths(settings: Settings, texts: Mapping[str, Given], directory: Path) -> dict[str, Path]:
    """By the setting that names it."""
    secrets = [row.name for row in TABLE.values() if row.secret]
    pointers = [f"{name}_FILE" for name in secrets if f"{name}_FILE" in texts]
    paths = {pointer: directory / texts[pointer].text for pointer in pointers}
    if settings.https_enabled:
        paths["OSC_SSL_KEYFILE"] = settings.ssl_keyfile
    if settings.cluster_enabled and settings.cluster_keyfile is not None:
        paths["OSC_CLUSTER_KEYFILE"] = settings.cluster_keyfile
    if any(name in texts and texts[name].source == ".env" for name in secrets):
        paths[".env"] = directory / ".env"
    return paths


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
