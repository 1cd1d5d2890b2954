from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenworks import config
from tokenworks.config import Given, Setting
from tokenworks.errors import ConfigError

EMPTY: dict[str, str] = {}


class Oven(msgspec.Struct, frozen=True, kw_only=True):
    """A package's settings, of every kind a field can be."""

    recipe: str  # no default: not for people to set
    degrees: Annotated[int, msgspec.Meta(ge=50, le=300)] = 180
    grill: Literal["off", "low", "high"] = "off"
    fan: bool = True
    trays: tuple[str, ...] = ()


def oven(**given: Given) -> Oven:
    return config.compose("oven", Oven, {f"oven.{name}": item for name, item in given.items()})


def test_flag_wins_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "tokenworks.toml"
    file.write_text("[server]\nport = 1111\n")
    environment = {"TOKENWORKS_SERVER_PORT": "2222"}
    flags = {"server.port": 3333}

    assert config.load(environment=EMPTY, folder=tmp_path / "none").server.port == 8410
    assert config.load(environment=EMPTY, folder=tmp_path).server.port == 1111
    assert config.load(environment=environment, folder=tmp_path).server.port == 2222
    assert config.load(flags, environment=environment, folder=tmp_path).server.port == 3333


layers = st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers()), max_size=4)


@given(layers)
def test_each_key_comes_from_the_first_layer_that_has_it(values: list[dict[str, int]]) -> None:
    given = [
        {key: Given(value, f"layer {number}", text=False) for key, value in layer.items()}
        for number, layer in enumerate(values)
    ]

    merged = config.merge(*given)

    assert merged.keys() == {key for layer in values for key in layer}
    for key, item in merged.items():
        first = next(number for number, layer in enumerate(values) if key in layer)
        assert item == Given(values[first][key], f"layer {first}", text=False)


def test_a_flag_that_was_not_given_decides_nothing() -> None:
    assert config.from_flags({"server.port": None}) == {}


def test_settings_know_where_they_came_from(tmp_path: Path) -> None:
    environment = {"TOKENWORKS_SERVER_PORT": "2222", "TOKENWORKS_HOME": str(tmp_path)}

    loaded = config.load({"model": "x"}, environment=environment, folder=tmp_path)

    assert loaded.origins["server.port"] == "environment TOKENWORKS_SERVER_PORT"
    assert loaded.origins["model"] == "flag --model"
    assert loaded.home.root == tmp_path


def test_the_state_folder_follows_the_environment_that_is_given(tmp_path: Path) -> None:
    environment = {"XDG_DATA_HOME": str(tmp_path)}

    assert (
        config.load(environment=environment, folder=tmp_path).home.root == tmp_path / "tokenworks"
    )


def test_a_state_folder_of_nobody_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="state folder") as caught:
        config.load(environment={"TOKENWORKS_HOME": "~no-such-user/x"}, folder=tmp_path)

    assert "TOKENWORKS_HOME" in (caught.value.hint or "")


def test_the_file_in_the_state_folder_counts_when_there_is_none_here(tmp_path: Path) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    environment = {"TOKENWORKS_HOME": str(home)}
    (home / "tokenworks.toml").write_text("[server]\nport = 1\n")

    assert config.load(environment=environment, folder=here).server.port == 1

    (here / "tokenworks.toml").write_text("[server]\nport = 2\n")

    assert config.load(environment=environment, folder=here).server.port == 2


@given(st.integers(50, 300), st.sampled_from(["off", "low", "high"]), st.booleans())
def test_text_from_the_environment_means_what_a_typed_value_means(
    degrees: int, grill: str, fan: bool
) -> None:
    values = {"degrees": degrees, "grill": grill, "fan": fan}
    typed = oven(**{name: Given(value, "file", text=False) for name, value in values.items()})
    text = oven(
        **{
            name: Given(str(value).lower(), "environment", text=True)
            for name, value in values.items()
        }
    )

    assert typed == text


def test_a_list_in_the_environment_is_separated_by_commas() -> None:
    assert oven(trays=Given("top, middle", "environment", text=True)).trays == ("top", "middle")


def test_a_field_without_a_default_is_no_setting_and_stays_empty() -> None:
    names = {setting.name for setting in config.every_setting({"oven": Oven})}

    assert names == {"degrees", "grill", "fan", "trays"}
    assert oven().recipe == ""


@pytest.mark.parametrize(
    ("name", "value", "nearest"),
    [
        ("degrees", "20", "50"),
        ("degrees", "999", "300"),
        ("degrees", "180.4", "180"),
        ("degrees", "hot", "180"),
        ("degrees", "nan", "180"),
        ("degrees", "1e999", "180"),
        ("grill", "hihg", "'high'"),
        ("fan", "perhaps", "true or false"),
    ],
)
def test_a_bad_value_is_an_error_that_names_key_value_origin_and_the_nearest_valid_one(
    name: str, value: str, nearest: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        oven(**{name: Given(value, "environment X", text=True)})

    assert f"oven.{name}" in caught.value.message
    assert f"'{value}'" in caught.value.message
    assert "environment X" in caught.value.message
    assert nearest in (caught.value.hint or "")


def test_a_file_is_held_to_its_types_strictly() -> None:
    with pytest.raises(ConfigError, match="Expected int"):
        oven(degrees=Given("180", "file", text=False))


def test_a_contradiction_names_where_its_settings_came_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load({"server.host": "0.0.0.0"}, environment=EMPTY, folder=tmp_path)

    assert "server.host from flag --host" in caught.value.message


def test_an_unknown_variable_is_an_error_with_the_nearest_known_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(environment={"TOKENWORKS_SERVER_PROT": "1"}, folder=tmp_path)

    assert caught.value.hint == "did you mean 'TOKENWORKS_SERVER_PORT'?"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[server]\nprot = 1\n", "server.prot"),
        ("[sever]\nport = 1\n", "sever.port"),
        ("modle = 'x'\n", "modle"),
        ("[server\n", "Cannot read"),
        ("[server]\nport = 'x'\n", "server.port"),
    ],
)
def test_a_bad_file_is_an_error_that_names_the_file_and_the_key(
    tmp_path: Path, text: str, named: str
) -> None:
    file = tmp_path / "tokenworks.toml"
    file.write_text(text)

    with pytest.raises(ConfigError) as caught:
        config.load(environment=EMPTY, folder=tmp_path)

    assert named in caught.value.message
    assert str(file) in caught.value.message


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no settings file '.*absent\.toml'"):
        config.load(environment=EMPTY, config_file=tmp_path / "absent.toml")


def test_no_two_settings_share_an_environment_variable() -> None:
    variables = [setting.variable for setting in config.every_setting()]

    assert len(variables) == len(set(variables))
    assert Setting("server", "port", int, 0).variable == "TOKENWORKS_SERVER_PORT"
