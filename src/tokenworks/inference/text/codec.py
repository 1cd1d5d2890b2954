"""From text to a model's tokens and back."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tokenizers import Tokenizer

from tokenworks.errors import RequestError
from tokenworks.inference.text.library import continuing, failures_as
from tokenworks.inference.text.marks import Marker
from tokenworks.inference.text.template import ChatTemplate
from tokenworks.inference.text.vocabulary import Vocabulary

_WHITE_SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""Unicode's, which is what the library strips beside a token."""


class TextCodec:
    """A model's tokenizer and chat template. Keeps nothing of the file; safe to share by threads.

    `tokenizer` encodes plain text and must not know the control tokens: those come from templates
    alone, found here. Encoding takes time and memory in proportion to the text: whoever takes text
    from outside must bound its length first. Bytes for which a vocabulary has no token at all (some
    have none for rare control characters) are dropped, as transformers and llama.cpp do.
    """

    def __init__(
        self, vocabulary: Vocabulary, tokenizer: Tokenizer, template: ChatTemplate | None
    ) -> None:
        self._vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._continuing = continuing(tokenizer)
        self._template = template
        self._marker = Marker(vocabulary.control, template.literals if template else ())
        alternatives = sorted(vocabulary.control, key=len, reverse=True)
        self._control = re.compile(f"({'|'.join(map(re.escape, alternatives)) or '(?!)'})")

    @property
    def vocabulary_size(self) -> int:
        return len(self._vocabulary.tokens)

    @property
    def bos(self) -> int | None:
        """The token that begins a text, if the model has one."""
        return self._vocabulary.bos

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Tokens that end an answer; the model's own end of text comes first."""
        return self._vocabulary.stop_tokens

    def is_control(self, token: int) -> bool:
        """Whether the token steers the model and is not part of any text."""
        return self._vocabulary.is_control(token)

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Tokens of a text. Only with `special` do control tokens spelt in it become tokens.

        Raises RequestError for text that is not valid Unicode (a lone surrogate).
        """
        if not special:
            return self._encode_plain(text)
        return self._encode_pieces(self._control.split(text))

    def prompt(self, text: str) -> list[int]:
        """Tokens of a text to continue: with those that begin a text if the model wants any."""
        return [*self._vocabulary.begin, *self.encode(text)]

    def document(self, text: str) -> list[int]:
        """Tokens of a whole text, as encoders take it: between those that begin and end one."""
        return [*self.prompt(text), *self._vocabulary.end]

    def chat(
        self,
        messages: Sequence[Mapping[str, object]],
        options: Mapping[str, object] | None = None,
    ) -> list[int]:
        """Tokens of a conversation up to where the assistant's answer begins.

        A content that is a list of text parts becomes one text, its parts joined by line ends.
        `options` are more variables for the template (`enable_thinking`). Control tokens come from
        the template alone, never from what a message or an option says. Raises RequestError if the
        model has no template or the template refuses.
        """
        if self._template is None:
            raise RequestError(
                "This model has no chat template",
                hint="send a prompt to /v1/completions",
                param="messages",
            )
        plain = [_with_plain_content(message) for message in messages]
        (*marked, chosen), mark = self._marker.mark([*plain, options or {}])
        text = self._template.render(marked, {**chosen, **self._names()})
        return self._encode_pieces(self._control.split(text), mark)

    def continuation(self, text: str) -> list[int]:
        """Tokens of a text that goes on from others: nothing begins before it.

        Raises RequestError as `encode` does.
        """
        return self._encode_plain(text, first=False) if text else []

    def decode(self, tokens: Iterable[int], special: bool = False) -> str:
        """The text of tokens, without control tokens unless `special`; invalid bytes are U+FFFD.

        As transformers decodes, but for this: tokens may continue a text, so a space before the
        first word stays, and none is removed before punctuation. Padding has no text. Raises
        IndexError for a negative token.
        """
        shown = (token for token in tokens if special or not self.is_control(token))
        return b"".join(map(self.token_bytes, shown)).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token, maybe a part of a character; a control token's are its name.

        Raises IndexError for a negative token.
        """
        return self._vocabulary.token_bytes(token)

    def _encode_pieces(self, pieces: list[str], mark: str = "") -> list[int]:
        """Pieces as `re.split` gives them: plain text and control tokens in turn."""
        ids = [self._vocabulary.control[name] for name in pieces[1::2]]
        tokens: list[int] = []
        for index, text in enumerate(pieces[::2]):
            if index and ids[index - 1] in self._vocabulary.strips_right:
                text = text.lstrip(_WHITE_SPACE)
            if index < len(ids) and ids[index] in self._vocabulary.strips_left:
                text = text.rstrip(_WHITE_SPACE)
            if text:
                plain = text.replace(mark, "") if mark else text
                tokens += self._encode_plain(plain, first=index == 0)
            tokens += ids[index : index + 1]
        return tokens

    def _encode_plain(self, text: str, *, first: bool = True) -> list[int]:
        tokenizer = self._tokenizer if first else self._continuing
        with failures_as(_failed):
            try:
                # Unlike `encode`, it lets other threads run, and skips offsets nobody reads.
                return tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
            except TypeError:
                raise RequestError(
                    "The text is not valid Unicode: it holds half of a surrogate pair",
                    hint="send UTF-8",
                ) from None

    def _names(self) -> dict[str, str]:
        """What templates may call by name."""
        named = {"bos_token": self._vocabulary.bos, "eos_token": self._vocabulary.eos}
        tokens = self._vocabulary.tokens
        return {name: tokens[token] for name, token in named.items() if token is not None}


def _failed(problem: str) -> RequestError:
    return RequestError(f"This model's tokenizer cannot take the text: {problem}")


def _with_plain_content(message: Mapping[str, object]) -> Mapping[str, object]:
    """OpenAI's list-of-parts content as the plain text that chat templates expect."""
    parts = message.get("content")
    if not isinstance(parts, list):
        return message
    texts: list[str] = []
    for part in parts:
        text = part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(text, str):
            raise RequestError("This model takes only text parts in a message", param="messages")
        texts.append(text)
    return {**message, "content": "\n".join(texts)}
