"""Owns entries as a stream tells them: a snapshot, then every change applied to it.

Pure. Must not know a connection, nor say what entries are for.
"""

from __future__ import annotations

from oscd.client.entries import Json, member, optional
from oscd.client.frames import Frame
from oscd.client.service import Filters
from oscd.client.subscription import Wanted


class Mirror:
    """The values of the entries that filters select and the user key opens.

    Attributes:
        is_broken: Whether the stream went on without what came before; then only a new mirror on a new stream helps.
    """

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self._values: dict[str, Json] = {}
        self._is_whole = False
        self._connections = 0
        self.is_broken = False

    def wanted(self) -> Wanted:
        """The stream to follow."""
        filters = self._filters
        return Wanted(environment=filters.environment, category=filters.category, snapshot=True, values=True)

    def take(self, frame: Frame) -> dict[str, Json] | None:
        """Apply a frame; gives key → value of all entries where they are known and may have changed.

        Raises:
            AnswerUnreadable: It is not as a node sends it.
        """
        match frame.event:
            case "connected":
                self._connections += 1
                # Entries of a snapshot that was cut off may be gone since, and no frame would say so.
                self.is_broken = self._connections > 1 and not self._is_whole
            case "reset":
                self.is_broken = True
            case "bookmark":
                self._is_whole = True
            case "snapshot" | "created" | "updated" | "deleted":
                self._apply(frame)
            case _:
                return None
        told = frame.event not in {"connected", "reset"} and self._is_whole
        return dict(self._values) if told else None

    def _apply(self, frame: Frame) -> None:
        key = member(frame.data, "key", str)
        category, told = optional(frame.data, "category", str), optional(frame.data, "data", dict)
        if not key.startswith(self._filters.prefix):
            return
        is_selected = self._filters.category in {None, category}
        # No value: it is sealed with another key, as in a list that does not hold it.
        if frame.event == "deleted" or told is None or not is_selected:
            self._values.pop(key, None)
        else:
            self._values[key] = told.get("value")
