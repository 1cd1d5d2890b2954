"""From an answer's tokens, one by one, to text that is safe to show at once."""

import codecs
from collections.abc import Sequence

from tokenworks.errors import RequestError
from tokenworks.inference.text.codec import TextCodec


class TextStream:
    """The text of one answer as its tokens arrive, cut where a stop string is completed first.

    What `feed` returns is final: it never ends inside a character, and it holds back only the
    longest end that a stop string may still begin with. Control tokens have no text. The pieces,
    `flush` included, add up to the decoded text before the stop string, however the text is cut
    into tokens. If several stop strings end at the same character, the longest counts. One that
    ends within the text of the first `min_tokens` tokens does not count.
    """

    def __init__(self, codec: TextCodec, stop: Sequence[str], min_tokens: int = 0) -> None:
        """Raises RequestError for an empty stop string."""
        if not all(stop):
            raise RequestError("A stop string is empty", param="stop")
        self._codec = codec
        self._stop = tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._protected = 0  # characters at the beginning of `_held` where no stop string may end
        self._tokens_to_protect = min_tokens
        self.stopped = False

    def feed(self, token: int) -> str:
        """Take the next token; return the text that is now certain. "" once `stopped`."""
        if self.stopped:
            return ""
        protect = self._tokens_to_protect > 0
        self._tokens_to_protect -= protect
        if self._codec.is_control(token):
            return ""
        return self._advance(self._decoder.decode(self._codec.token_bytes(token)), protect)

    def flush(self) -> str:
        """The rest, when no token follows. Bytes that end inside a character become U+FFFD."""
        if self.stopped:
            return ""
        rest = self._decoder.decode(b"", final=True)
        text = self._advance(rest, self._tokens_to_protect > 0) + self._held
        self._held = ""
        return text

    def _advance(self, new: str, protect: bool) -> str:
        text = self._held + new
        if protect:
            self._protected = len(text)
        cut = self._first_stop(text)
        if cut is not None:
            self.stopped = True
            self._held = ""
            return text[:cut]
        certain = len(text) - self._may_begin_stop(text)
        self._held = text[certain:]
        self._protected = max(0, self._protected - certain)
        return text[:certain]

    def _first_stop(self, text: str) -> int | None:
        """Where the stop string begins that is complete first."""
        begin = self._protected + 1  # the first place where one may end
        found = ((text.find(stop, max(0, begin - len(stop))), len(stop)) for stop in self._stop)
        ends = [(start + length, start) for start, length in found if start >= 0]
        return min(ends)[1] if ends else None

    def _may_begin_stop(self, text: str) -> int:
        """Length of the longest end of the text that is a beginning of a stop string."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stop):
                return length
        return 0
