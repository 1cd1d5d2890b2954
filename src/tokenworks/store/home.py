"""The state folder: everything that Tokenworks leaves on a machine lies in it."""

import os
from dataclasses import dataclass
from pathlib import Path

from tokenworks.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Home:
    """The state folder and its parts, made when first asked for and readable by its owner only.

    Raises ConfigError if a folder cannot be made.
    """

    root: Path

    @property
    def models(self) -> Path:
        """Pulled models, one folder each."""
        return self._folder("models")

    @property
    def run(self) -> Path:
        """Sockets, process ids and whatever else means something only while something runs."""
        return self._folder("run")

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as problem:
            raise ConfigError(
                f"The state folder '{self.root}' cannot be made: {problem.strerror}",
                hint="name another one: export TOKENWORKS_HOME=FOLDER",
            ) from None
        return folder


def default_root() -> Path:
    """`$XDG_DATA_HOME/tokenworks`, or `~/.local/share/tokenworks` where that is not set.

    A relative XDG_DATA_HOME is ignored, as the XDG base directory specification asks.
    """
    data = os.environ.get("XDG_DATA_HOME", "")
    base = Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share"
    return base / "tokenworks"
