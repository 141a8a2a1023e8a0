"""What a terminal sends for a key, read as the key's name: "a", "enter", "left", "esc"."""

from __future__ import annotations

NAMES = {"\r": "enter", "\n": "enter", " ": "space", "\t": "tab", "\x7f": "backspace", "\x08": "backspace"}
ARROWS = {"A": "up", "B": "down", "C": "right", "D": "left"}  # after ESC [ or ESC O (ECMA-48; DEC's VT100)
ESC = "\x1b"
FINAL = range(0x40, 0x7F)  # the bytes that end a control sequence (ECMA-48, 5.4)


class KeyDecoder:
    """Reads keys out of bytes that come in pieces; an Esc is one once nothing has followed it."""

    def __init__(self) -> None:
        self._pending = ""

    @property
    def pending(self) -> bool:
        """Whether an Esc waits for what may follow it."""
        return bool(self._pending)

    def decode(self, data: bytes) -> list[str]:
        """Return the names of the keys that data, and what was left of earlier data, spell; of no data: a lone Esc."""
        text = self._pending + data.decode("utf-8", errors="ignore")
        self._pending = ""
        found: list[str] = []
        while text:
            if text[0] != ESC:
                key, text = NAMES.get(text[0], text[0]), text[1:]
            elif len(text) == 1 or (text[1] in "[O" and not _ends(text)):
                if data:  # what follows may be on its way
                    self._pending = text
                    break
                key, text = "esc", ""
            elif text[1] in "[O":
                end = _ends(text)
                key, text = ARROWS.get(text[end - 1], "unknown"), text[end:]
            else:
                key, text = "esc", text[1:]
            found.append(key)
        return found


def _ends(text: str) -> int:
    """Return the length of the control sequence that text begins with, 0 if its end is not there yet."""
    return next((i + 1 for i, c in enumerate(text) if i > 1 and ord(c) in FINAL), 0)
