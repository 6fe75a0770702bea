"""Owns a small file system for tests of full disks. Must not leave it mounted."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A file system of 4 MiB on a directory that is there."""
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root may mount; what a full disk does is shown with injected faults as well")
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"may not mount: {mounted.stderr.strip()}; injected faults show the same")
    with ExitStack() as undo:
        undo.callback(subprocess.run, ["umount", "-l", str(directory)], check=True)
        yield directory
