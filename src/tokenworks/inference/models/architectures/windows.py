"""Which layers see only a window of tokens, as config.json lists them."""

from tokenworks.inference.models.architectures.values import Values

FULL, WINDOWED = "full_attention", "sliding_attention"


def listed_windows(values: Values, layers: int) -> tuple[int, ...]:
    """The window of each layer by `layer_types`; () where there is no list or none has a window.

    Raises ModelFileError for a list of another length or with other kinds of layers.
    """
    kinds = values.texts("layer_types")
    if not kinds:
        return ()
    key = values.key("layer_types")
    if len(kinds) != layers:
        raise values.error(f"{key} lists {len(kinds)} layers, not {layers}")
    unknown = set(kinds) - {FULL, WINDOWED}
    if unknown:
        raise values.error(f"{key} {min(unknown)!r} is not supported")
    if WINDOWED not in kinds:
        return ()
    window = values.size("attention.sliding_window")
    return tuple(window if kind == WINDOWED else 0 for kind in kinds)
