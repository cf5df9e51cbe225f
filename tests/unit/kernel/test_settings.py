"""One tree of settings: arguments over `LAMBENT_*` over the toml file over defaults, and clear refusals."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from lambent.kernel.settings import Settings, default_data_dir, endpoint_urls, unknown_variables


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("LAMBENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LAMBENT_DATA_DIR", str(tmp_path))


def test_defaults() -> None:
    settings = Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 9000)
    assert (settings.account_id, settings.region) == ("000000000000", "us-east-1")
    assert settings.redis_url is None
    assert settings.runtime_match == "exact"


def test_arguments_over_environment_over_file_over_defaults(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "lambent.toml").write_text('port = 1\nregion = "eu-west-1"\naccount_id = "111111111111"\n')
    monkeypatch.setenv("LAMBENT_PORT", "2")
    monkeypatch.setenv("LAMBENT_REGION", "eu-west-2")
    settings = Settings(port=3)
    assert (settings.port, settings.region, settings.account_id) == (3, "eu-west-2", "111111111111")
    assert settings.config_file() == tmp_path / "lambent.toml"


def test_the_file_may_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    named = tmp_path / "other.toml"
    named.write_text("port = 7\n")
    (tmp_path / "lambent.toml").write_text("port = 1\n")
    monkeypatch.setenv("LAMBENT_CONFIG", str(named))
    assert Settings().port == 7
    assert Settings().config_file() == named


def test_the_file_lies_in_the_data_folder_of_the_arguments(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "lambent.toml").write_text("port = 8\n")
    assert Settings(data_dir=folder).port == 8


def test_a_named_file_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LAMBENT_CONFIG", str(tmp_path / "missing.toml"))
    with pytest.raises(FileNotFoundError, match="LAMBENT_CONFIG"):
        Settings()


def test_an_unknown_name_in_the_file_is_refused_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "lambent.toml").write_text('isolaton = "strict"\n')
    with pytest.raises(ValueError, match=r"no setting isolaton \(did you mean isolation\?\)"):
        Settings()


def test_a_tilde_is_the_home_also_where_the_file_is_looked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/lambent.toml").write_text("port = 5\n")
    (tmp_path / "named.toml").write_text("port = 6\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LAMBENT_DATA_DIR", "~/x")
    assert Settings().port == 5
    assert Settings().config_file() == tmp_path / "x/lambent.toml"
    monkeypatch.setenv("LAMBENT_CONFIG", "~/named.toml")
    assert Settings().port == 6


def test_variables_that_are_no_settings_are_named() -> None:
    fine = {
        "LAMBENT_PORT": "1",
        "LAMBENT_CONFIG": "x",
        "LAMBENT_ENDPOINT": "x",
        "LAMBENT_TEST_X": "x",
        "PORT": "1",
    }
    assert unknown_variables(fine) == []
    assert unknown_variables(fine | {"LAMBENT_ISOLATON": "strict", "lambent_xyz": "1"}) == [
        "there is no setting LAMBENT_ISOLATON (did you mean LAMBENT_ISOLATION?)",
        "there is no setting lambent_xyz",
    ]


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("redis://localhost", "redis://localhost"),
        ("redis://:secret@h:1/2", "redis://:secret@h:1/2"),
        ("rediss://[::1]:1/0?ssl_cert_reqs=none", "rediss://[::1]:1/0?ssl_cert_reqs=none"),
        ("unix:///run/redis.sock?db=0", "unix:///run/redis.sock?db=0"),
        ("redis+streams://h:1/0", "redis://h:1/0"),
        ("redis+streams+ssl://h", "rediss://h"),
        ("redis+streams+socket:///run/redis.sock", "unix:///run/redis.sock"),
        ("streams://h", "redis://h"),
        ("redis+sentinel://a:1,b/m/0", "redis+sentinel://a:1,b:26379/m/0"),
        ("redis+streams+sentinel://:pw@a:1,[::1]:2/m/3?x=1", "redis+sentinel://:pw@a:1,[::1]:2/m/3?x=1"),
        ("sentinel://a:1;sentinel://b:2/1?master_name=m", "redis+sentinel://a:1,b:2/m/1"),
        ("rediss+sentinel://a/m", "rediss+sentinel://a:26379/m/0"),
    ],
)
def test_the_redis_url_may_have_the_queues_form(given: str, plain: str) -> None:
    assert Settings(redis_url=given).redis_url == plain


def test_sentinels_without_an_address_or_a_master_are_refused_without_the_password() -> None:
    for url in ("sentinel://:secret@a:1/0", "sentinel://:secret@/m/0", "sentinel://:secret@a:x/m"):
        with pytest.raises(ValidationError, match=r"redis\+sentinel://HOST:PORT") as refusal:
            Settings(redis_url=url)
        assert "secret" not in refusal.value.errors(include_input=False)[0]["msg"]


def test_a_cluster_is_refused_with_what_is_possible() -> None:
    with pytest.raises(ValidationError, match="cannot keep functions and logs yet"):
        Settings(redis_url="redis+cluster://h:1/")


@pytest.mark.parametrize(
    "url",
    [
        "foo",
        "redis://",
        "http://h",
        "redis://h:port/0",
        "redis://h:99999",
        "redis://h/name",
        "unix://",
        "redis://[",
        "redis+cluster://h:1,h2:1/",
        "streams+cluster://h:1",
    ],
)
def test_what_is_no_redis_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ValidationError, match="redis://HOST:PORT/0"):
        Settings(redis_url=url)


@pytest.mark.parametrize("value", ['["http://127.0.0.1:8000"', "[oops]"])
def test_a_wrong_list_of_urls_is_told_in_our_words(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("LAMBENT_REACHABLE", value)
    with pytest.raises(ValidationError, match=r"JSON list, as \[\"URL\"\]"):
        Settings()


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBENT_PORT", "")
    assert Settings().port == 9000


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


def test_reachable_is_a_list_of_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBENT_REACHABLE", '["http://127.0.0.1:8000", "redis://localhost:6379"]')
    assert Settings().reachable == ("http://127.0.0.1:8000", "redis://localhost:6379")


def test_reachable_may_be_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBENT_REACHABLE", "http://127.0.0.1:8000, redis://localhost:6379,")
    assert Settings().reachable == ("http://127.0.0.1:8000", "redis://localhost:6379")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 70000),
        ("account_id", "12"),
        ("region", "Mars"),
        ("reachable", ("localhost:8000",)),
        ("reachable", ("file:///etc",)),
        ("isolation", "some"),
        ("shards", 0),
        ("memory_mb", 100),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Settings(**{name: value})  # type: ignore[arg-type]


def test_the_data_folder_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert Settings(data_dir=Path("data")).data_dir == tmp_path / "data"


def test_secrets_are_not_shown() -> None:
    keys = {"function_aws_access_key_id": "id", "function_aws_secret_access_key": "hush"}
    assert "hush" not in repr(Settings(**keys))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "ok"),
    [
        ("", True),
        ("id", False),
        ("secret", False),
        ("id secret", True),
        ("token", False),
        ("id token", False),
        ("secret token", False),
        ("id secret token", True),
    ],
)
def test_the_keys_of_functions_are_set_together(given: str, ok: bool) -> None:
    names = {
        "id": "function_aws_access_key_id",
        "secret": "function_aws_secret_access_key",
        "token": "function_aws_session_token",
    }
    settings: dict[str, str] = {names[each]: "hush" for each in given.split()}
    if ok:
        Settings(**settings)  # type: ignore[arg-type]
        return
    with pytest.raises(
        ValidationError, match="LAMBENT_FUNCTION_AWS_ACCESS_KEY_ID and LAMBENT_FUNCTION_AWS_SEC"
    ):
        Settings(**settings)  # type: ignore[arg-type]


def test_the_default_folder_of_a_user_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_data_dir() == tmp_path / "lambent"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/lambent")


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_endpoint_urls_are_the_servers_own_variables() -> None:
    environment = {
        "AWS_ENDPOINT_URL": "http://a",
        "AWS_ENDPOINT_URL_S3": "http://b",
        "AWS_ENDPOINT_URLS": "x",
        "AWS_ENDPOINT_URL_SQS": "",
    }
    assert endpoint_urls(environment) == {"AWS_ENDPOINT_URL": "http://a", "AWS_ENDPOINT_URL_S3": "http://b"}


@pytest.mark.parametrize(
    "url", ["amqp://guest:guest@h:1//", "amqps://h/vhost", "amqp://h", "amqp://[::1]:5672", "memory://"]
)
def test_a_brokers_url_is_taken_as_it_is(url: str) -> None:
    assert Settings(broker_url=url).broker_url == url


@pytest.mark.parametrize(
    "url", ["foo", "amqp://", "memory://here", "redis://h", "amqp://h:99999", "pyamqp://h"]
)
def test_what_is_no_brokers_url_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(ValidationError, match="amqp://USER:PASSWORD@HOST:PORT/VHOST"):
        Settings(broker_url=url)
