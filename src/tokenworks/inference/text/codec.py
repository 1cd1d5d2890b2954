"""From text to a model's tokens and back."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from tokenizers import Tokenizer

from tokenworks.errors import ModelFileError, RequestError
from tokenworks.inference.models.gguf import GGUF
from tokenworks.inference.text.bpe import build_tokenizer
from tokenworks.inference.text.marks import Marker
from tokenworks.inference.text.template import ChatTemplate
from tokenworks.inference.text.vocabulary import Vocabulary, read_vocabulary


class TextCodec:
    """A model's tokenizer and chat template. Keeps nothing of the file; safe to share by threads.

    Encoding takes time and memory in proportion to the text: whoever takes text from outside must
    bound its length first. Bytes for which a vocabulary has no token at all (some have none for
    rare control characters) are dropped, as transformers and llama.cpp do.
    """

    def __init__(
        self, vocabulary: Vocabulary, tokenizer: Tokenizer, template: ChatTemplate | None
    ) -> None:
        self._vocabulary = vocabulary
        self._tokenizer = tokenizer
        self._template = template
        self._marker = Marker(vocabulary.control, template.literals if template else ())
        alternatives = sorted(vocabulary.control, key=len, reverse=True)
        self._control = re.compile(f"({'|'.join(map(re.escape, alternatives)) or '(?!)'})")

    @classmethod
    def from_gguf(cls, gguf: GGUF, *, now: Callable[[], datetime] = datetime.now) -> "TextCodec":
        """The codec that a model file describes. `now` is the clock for templates that ask for it.

        Raises ModelFileError for a kind of tokenizer that is not supported, naming those that are.
        """
        vocabulary = read_vocabulary(gguf)
        source = gguf.metadata.get("tokenizer.chat_template")
        try:
            template = ChatTemplate(source, now) if isinstance(source, str) else None
        except ModelFileError as problem:
            raise ModelFileError(f"Model file '{gguf.path}': {problem.message}") from None
        return cls(vocabulary, build_tokenizer(gguf, vocabulary), template)

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
        """Tokens of a text to continue: with the token that begins a text if the model wants it."""
        begin = [self.bos] if self._vocabulary.add_bos and self.bos is not None else []
        return begin + self.encode(text)

    def chat(self, messages: Sequence[Mapping[str, object]]) -> list[int]:
        """Tokens of a conversation up to where the assistant's answer begins.

        A content that is a list of text parts becomes one text, its parts joined by line ends.
        Control tokens come from the template alone, never from what a message says. Raises
        RequestError if the model has no template or the template refuses.
        """
        if self._template is None:
            raise RequestError(
                "This model has no chat template",
                hint="send a prompt to /v1/completions",
                param="messages",
            )
        marked, mark = self._marker.mark([_with_plain_content(message) for message in messages])
        text = self._template.render(
            marked, bos=self._text(self.bos), eos=self._text(self._vocabulary.eos)
        )
        return self._encode_pieces(self._control.split(text), mark)

    def decode(self, tokens: Iterable[int], special: bool = False) -> str:
        """The text of tokens, without control tokens unless `special`; invalid bytes are U+FFFD.

        Raises IndexError for a token outside the vocabulary.
        """
        shown = (token for token in tokens if special or not self.is_control(token))
        return b"".join(map(self.token_bytes, shown)).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """The bytes of one token, maybe a part of a character; a control token's are its name.

        Raises IndexError for a token outside the vocabulary.
        """
        return self._vocabulary.token_bytes(token)

    def _encode_pieces(self, pieces: list[str], mark: str = "") -> list[int]:
        """Pieces as `re.split` gives them: plain text and control tokens in turn."""
        tokens: list[int] = []
        for index, piece in enumerate(pieces):
            if index % 2:
                tokens.append(self._vocabulary.control[piece])
            elif piece:
                tokens += self._encode_plain(piece.replace(mark, "") if mark else piece)
        return tokens

    def _encode_plain(self, text: str) -> list[int]:
        try:
            # Unlike `encode`, it lets other threads run, and skips offsets that nobody reads.
            return self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        except TypeError:
            raise RequestError(
                "The text is not valid Unicode: it holds half of a surrogate pair",
                hint="send UTF-8",
            ) from None

    def _text(self, token: int | None) -> str:
        return "" if token is None else self._vocabulary.tokens[token]


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
