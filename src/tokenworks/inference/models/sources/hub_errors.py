"""Turns what the hub's client raises into errors that say what to do next."""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from tokenworks.errors import DownloadError, ModelError, ModelNotFound
from tokenworks.inference.models.sources.hub_source import HubSource

_LOG_IN = "hf auth login, or export HF_TOKEN=…"
_AGAIN = "pull again; what has arrived is kept until then"


@contextmanager
def explained(source: HubSource) -> Iterator[None]:
    """Raise ModelNotFound or DownloadError for whatever goes wrong with the hub inside.

    What goes wrong with this machine's disk stays an OSError.
    """
    import httpx2
    from huggingface_hub import errors

    expected = (  # ValueError: what is no JSON, or a name that leads out of its folder
        *(httpx2.HTTPError, httpx2.InvalidURL, ValueError),
        *(errors.OfflineModeIsEnabled, errors.EntryNotFoundError, errors.FileMetadataError),
    )
    try:
        yield
    except expected as problem:
        raise _explanation(problem, source) from None
    except OSError as problem:
        if problem.errno is not None:
            raise
        # The client's own checks of what arrived are OSErrors without a number.
        raise _failed(problem, source) from None


def hub_address() -> str:
    """The hub in use, without a password that its address may hold."""
    from huggingface_hub import constants

    parts = urlsplit(constants.ENDPOINT)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _explanation(problem: Exception, source: HubSource) -> ModelError:
    from huggingface_hub import errors

    name, hub = source.repository, hub_address()
    if isinstance(problem, errors.GatedRepoError):
        return DownloadError(
            f"Repository '{name}' is gated: its owners hand it out to those who accept their terms",
            hint=f"accept them at {hub}/{name}, then log in: {_LOG_IN}",
        )
    if isinstance(problem, errors.RepositoryNotFoundError):
        return ModelNotFound(
            f"There is no repository '{name}' at {hub}, or it is private",
            hint=f"check its spelling; if it is private, log in: {_LOG_IN}",
        )
    if isinstance(problem, errors.RevisionNotFoundError):
        return ModelNotFound(
            f"Repository '{name}' has no revision '{source.revision or 'main'}'",
            hint=f"its branches, tags and commits: {hub}/{name}/tree/main",
        )
    if isinstance(problem, errors.RemoteEntryNotFoundError):
        return DownloadError(f"{hub} lists a file of '{name}' and does not have it", hint=_AGAIN)
    if isinstance(problem, errors.HfHubHTTPError):
        return _refused(problem.response.status_code, source)
    if isinstance(problem, errors.HFValidationError):
        return ModelNotFound(
            f"'{name}' cannot be the name of a repository",
            hint="write hf:OWNER/NAME as the hub's page shows it",
        )
    return _failed(problem, source)


def _refused(status: int, source: HubSource) -> DownloadError:
    name, hub = source.repository, hub_address()
    if status == 401:
        return DownloadError(f"{hub} does not know your token", hint=f"log in again: {_LOG_IN}")
    if status == 403:
        return DownloadError(
            f"{hub} refuses '{name}' to you", hint=f"use a token that may read it: {_LOG_IN}"
        )
    if status == 429:
        return DownloadError(
            f"{hub} asks to wait: too many requests from here",
            hint=f"pull again later; those who are logged in may ask more often: {_LOG_IN}",
        )
    return DownloadError(f"{hub} answers '{name}' with status {status}", hint=_AGAIN)


def _failed(problem: Exception, source: HubSource) -> DownloadError:
    """No answer, or one that broke off."""
    reason = str(problem.__cause__ or problem).strip().partition("\n")[0]
    kind = type(problem.__cause__ or problem).__name__
    return DownloadError(
        f"'{source.repository}' could not be fetched from {hub_address()}: {reason or kind}",
        hint="check the network and HF_ENDPOINT (tokenworks doctor), then pull again; "
        "what has arrived is kept until then",
    )
