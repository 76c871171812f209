"""Where a setting comes from, and what is said about a bad one."""

from pathlib import Path

import pytest

import server
from server.settings import (
    ApiKeyError,
    ApiKeys,
    Settings,
    SettingsError,
    forget_keys,
    read_settings,
    unknown_variables,
)


def test_a_flag_wins_over_the_environment_over_dotenv_over_the_default(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_settings().port == 8000
    (home / ".env").write_text("CORRAL_PORT=8001\nCORRAL_HOST=127.0.0.3\n")
    assert read_settings().port == 8001
    monkeypatch.setenv("CORRAL_PORT", "8002")
    assert read_settings().port == 8002
    settings = read_settings(port="8003", host=None)
    assert (settings.port, settings.host) == (8003, "127.0.0.3")


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_PORT", "")
    assert read_settings().port == 8000


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("port", "1.5", "--port must be a whole number, not '1.5'."),
        ("port", "abc", "--port must be a whole number, not 'abc'."),
        ("port", "-1", "--port must be at least 0, not '-1'."),
        ("port", "65536", "--port must be at most 65535, not '65536'."),
        (
            "log_level",
            "loud",
            "--log-level must be one of debug, info, warning, error, not 'loud'.",
        ),
        ("load_wait_seconds", "0", "--load-wait-seconds must be more than 0, not '0'."),
        (
            "database_url",
            "mysql://x",
            "--database-url: must begin with sqlite:/// and a path, or with postgresql://.",
        ),
        (
            "trusted_proxies",
            "10.0.0.1, *",
            "--trusted-proxies: must be IP addresses or networks, comma-separated, not '*'.",
        ),
        ("allow_no_key", "perhaps", "--allow-no-key must be true or false, not 'perhaps'."),
    ],
)
def test_a_bad_flag_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(**{name: value})
    assert str(caught.value) == message


def test_every_bad_value_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_MAX_RUNNING", "many")
    with pytest.raises(SettingsError) as caught:
        read_settings(port="x")
    assert sorted(str(caught.value).splitlines()) == [
        "--port must be a whole number, not 'x'.",
        "CORRAL_MAX_RUNNING must be a whole number, not 'many'.",
    ]


def test_log_levels_may_be_written_in_capitals() -> None:
    assert read_settings(log_level="DEBUG").log_level == "debug"


def test_the_registry_is_the_one_here(registry: Path) -> None:
    assert read_settings().registry_path == Path("model_registry.yaml")


def test_without_one_here_it_is_the_shipped_one() -> None:
    path = read_settings().registry_path
    assert path.is_file()
    package = Path(server.__file__).parent
    assert path.parent in (package, package.parent)


def test_one_that_was_asked_for_is_never_replaced() -> None:
    assert read_settings(registry="model_registry.yaml").registry_path == Path(
        "model_registry.yaml"
    )


def test_keys_are_split_and_auto_makes_one() -> None:
    assert Settings(api_key=" a , b,").resolve_keys() == ApiKeys(("a", "b"), None)
    keys = Settings(api_key="a,auto").resolve_keys()
    assert keys.made is not None
    assert keys.made.startswith("sk-corral-")
    assert keys.accepted == (keys.made, "a")
    assert keys.made != Settings(api_key="auto").resolve_keys().made


def test_admin_keys_are_read_as_api_keys_are() -> None:
    assert Settings(admin_key=" a , b,").resolve_admin_keys() == ApiKeys(("a", "b"), None)
    both = Settings(api_key="a", admin_key="auto")
    assert both.resolve_keys() == ApiKeys(("a",), None)
    made = both.resolve_admin_keys()
    assert made.made is not None
    assert made.accepted == (made.made,), "never the word itself"
    with pytest.raises(ApiKeyError) as caught:
        Settings(admin_key=" ,").resolve_admin_keys()
    assert str(caught.value) == (
        "CORRAL_ADMIN_KEY (or --admin-key) holds no key, only commas and spaces. Set it to a key, "
        "to 'auto' to have one made, or to nothing."
    )
    with pytest.raises(ApiKeyError, match="The admin key has characters"):
        Settings(admin_key="schlüssel").resolve_admin_keys()
    with pytest.raises(ApiKeyError, match="Admin key 2 of 2 has characters"):
        Settings(admin_key="a,schlüssel").resolve_admin_keys()


@pytest.mark.parametrize("keys", [",", " ", " , ,\t"])
def test_a_variable_without_any_key_in_it_is_a_mistake(
    keys: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORRAL_API_KEY", keys)
    with pytest.raises(ApiKeyError) as caught:
        read_settings().resolve_keys()
    assert str(caught.value) == (
        "CORRAL_API_KEY (or --api-key) holds no key, only commas and spaces. Set it to a key, to "
        "'auto' to have one made, or to nothing."
    )


@pytest.mark.parametrize(
    ("keys", "which"),
    [
        ("schlüssel", "The API key"),
        ("good,schlüssel", "API key 2 of 2"),
        ("ключ,auto,a", "API key 1 of 3"),
        ("a\nb", "The API key"),
        ("a\x7fb", "The API key"),
    ],
)
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(keys: str, which: str) -> None:
    with pytest.raises(ApiKeyError) as caught:
        Settings(api_key=keys).resolve_keys()
    assert str(caught.value) == (
        f"{which} has characters that an HTTP header cannot carry: only ASCII letters, digits and "
        "signs may be in it. Choose another, or 'auto' to have one made."
    )


def test_keys_leave_the_environment() -> None:
    environment = {"CORRAL_API_KEY": "a", "corral_api_key": "b", "CORRAL_PORT": "1", "PATH": "c"}
    environment |= {"CORRAL_ADMIN_KEY": "d", "Corral_Admin_Key": "e"}
    forget_keys(environment)
    assert environment == {"CORRAL_PORT": "1", "PATH": "c"}


def test_keys_do_not_show_in_a_repr() -> None:
    assert "secret" not in repr(Settings(api_key="secret", admin_key="secret"))


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("example.org", False),
    ],
)
def test_loopback_is_recognised(host: str, loopback: bool) -> None:
    assert Settings(host=host).on_loopback is loopback


def test_a_slip_in_a_variables_name_is_noticed() -> None:
    environment = {"CORRAL_PROT": "1", "CORRAL_PORT": "2", "PATH": "/bin", "CORRAL_XYZZY": "3"}
    assert unknown_variables(environment) == [
        "CORRAL_PROT is set, and is no setting of Corral (did you mean CORRAL_PORT?).",
        "CORRAL_XYZZY is set, and is no setting of Corral.",
    ]


def test_where_the_database_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert read_settings().database == "sqlite+aiosqlite:////home/me/.local/share/corral/corral.db"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert read_settings().database.startswith("sqlite+aiosqlite:////home/me/.local")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert read_settings().database == "sqlite+aiosqlite:////data/corral/corral.db"
    # A chosen cache is what lasts in a container.
    settings = read_settings(cache_dir=str(tmp_path))
    assert settings.database == f"sqlite+aiosqlite:///{tmp_path}/corral.db"
    assert read_settings(database_url="postgres://h/d").database == "postgres://h/d"
