"""The state folder: everything that Tokenworks leaves on a machine lies in it."""

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
    def measurements(self) -> Path:
        """What machines were measured to do, one file for each that uses this folder."""
        return self._folder("measurements")

    @property
    def plans(self) -> Path:
        """What the weights of models are rounded to on machines that use this folder."""
        return self._folder("plans")

    @property
    def database(self) -> Path:
        """Keys, budgets and the ledger, where no other database is set."""
        return self._made(self.root) / "tokenworks.db"

    @property
    def secret(self) -> Path:
        """What keys are hashed under. Without it, all of them must be made anew."""
        return self._made(self.root) / "secret"

    def _folder(self, name: str) -> Path:
        return self._made(self._made(self.root) / name)

    def _made(self, folder: Path) -> Path:
        try:
            folder.mkdir(mode=0o700, parents=folder == self.root, exist_ok=True)
        except OSError as problem:
            raise ConfigError(
                f"The state folder '{self.root}' cannot be made: {problem.strerror}",
                hint="name another one: export TOKENWORKS_HOME=FOLDER",
            ) from None
        return folder


def default_root(data_home: str) -> Path:
    """`data_home/tokenworks`, or `~/.local/share/tokenworks` if it is empty.

    `data_home` is what XDG_DATA_HOME says; a relative one is ignored, as the XDG base directory
    specification asks. Raises RuntimeError if this user has no home.
    """
    own = Path(data_home)
    base = own if own.is_absolute() else Path.home() / ".local" / "share"
    return base / "tokenworks"
