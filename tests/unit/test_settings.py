"""Where a hub is: arguments, then the environment, then modelhub.toml, then defaults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from modelhub.connect import open_stores
from modelhub.errors import InvalidInput
from modelhub.settings import Profile, embedded, read_settings

CLUSTER = """
weights = "hdfs://namenode:8020/modelhub"
rows = "hbase://thrift:9090"
search = "https://search:9200"
"""
URLS = {
    "MODELHUB_WEIGHTS": "webhdfs://gateway:14000/hub",
    "MODELHUB_ROWS": "hbase://other",
    "MODELHUB_SEARCH": "http://other:9200",
}


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Writes a modelhub.toml; the environment that names it."""

    def write(text: str) -> dict[str, str]:
        (tmp_path / "modelhub.toml").write_text(text, encoding="utf-8")
        return {"MODELHUB_CONFIG": str(tmp_path / "modelhub.toml")}

    return write


Config = Callable[[str], dict[str, str]]


def test_without_anything_the_hub_is_a_folder_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = read_settings(environ={"XDG_CONFIG_HOME": str(tmp_path)})
    assert settings.address == str(tmp_path / ".modelhub")
    assert settings.stores == embedded(tmp_path / ".modelhub")


def test_a_profile_is_found_by_its_name_in_an_argument_or_the_environment(config: Config) -> None:
    environ = config(f'[profile.prod]\n{CLUSTER}rows_prefix = "models:"\nweights_replication = 2')
    by_argument = read_settings("prod", environ=environ)
    by_environment = read_settings(environ=environ | {"MODELHUB_HOME": "prod"})
    assert by_argument == by_environment
    assert by_argument.address == "prod"
    stores = by_argument.stores
    assert (stores.rows, stores.rows_prefix) == ("hbase://thrift:9090", "models:")
    assert (stores.weights_replication, stores.rows_timeout_s) == (2, 10.0)


def test_the_environment_wins_over_the_file_but_never_mixes_the_stores_of_two_hubs(
    config: Config,
) -> None:
    environ = config(f'[profile.prod]\n{CLUSTER}search_user = "reader"\nrows_timeout_s = 3')
    said = {"MODELHUB_SEARCH_PASSWORD": "secret", "MODELHUB_ROWS_TIMEOUT_S": "7.5"}
    stores = read_settings("prod", environ=environ | said | URLS).stores
    assert (stores.search_user, stores.search_password) == ("reader", "secret")
    assert stores.rows_timeout_s == 7.5
    assert stores.rows == "hbase://thrift:9090"


def test_three_urls_in_the_environment_are_a_hub_where_none_is_named(tmp_path: Path) -> None:
    stores = read_settings(environ=URLS).stores
    assert stores.weights == "webhdfs://gateway:14000/hub"
    named = read_settings(environ=URLS | {"MODELHUB_HOME": str(tmp_path)})
    assert named.stores == embedded(tmp_path)
    with pytest.raises(InvalidInput, match="search"):
        read_settings(environ={"MODELHUB_ROWS": "hbase://x", "MODELHUB_WEIGHTS": "hdfs://x/y"})


def test_a_certificate_authority_is_looked_for_beside_the_file(
    config: Config, tmp_path: Path
) -> None:
    stores = read_settings("p", environ=config(f'[profile.p]\n{CLUSTER}search_ca = "ca.pem"'))
    assert stores.stores.search_ca == str(tmp_path / "ca.pem")


def test_a_path_is_a_folder_whatever_profiles_there_are(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = config(f"[profile.prod]\n{CLUSTER}")
    for path in ("./prod", str(tmp_path / "prod"), Path("prod")):
        assert read_settings(path, environ=environ).address == str(tmp_path / "prod")


def test_a_mistyped_profile_does_not_become_a_folder(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = config(f"[profile.prod]\n{CLUSTER}")
    with pytest.raises(InvalidInput, match="prdo") as caught:
        read_settings("prdo", environ=environ)
    assert "prod" in caught.value.remedy
    (tmp_path / "prdo").mkdir()
    assert read_settings("prdo", environ=environ).address == str(tmp_path / "prdo")


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("[profile.p\n", "not TOML"),
        ("[profiles.p]\n", "profiles"),
        ("profile = 3", "profile without a name"),
        ("[profile]\np = 3", "profile"),
        ('[profile.p]\nweights = "hdfs://h/x"', "rows"),
        (f"[profile.p]\n{CLUSTER}row_prefix = 'x'", "row_prefix"),
        (f"[profile.p]\n{CLUSTER}rows_transport = 'http'", "rows_transport"),
        (f"[profile.p]\n{CLUSTER}rows_timeout_s = 0", "rows_timeout_s"),
        (f"[profile.p]\n{CLUSTER}weights_replication = 0", "weights_replication"),
        (f"[profile.p]\n{CLUSTER}weights_permission = 'rwx'", "weights_permission"),
    ],
)
def test_a_file_that_is_wrong_is_named_with_what_is_wrong_in_it(
    config: Config, text: str, about: str
) -> None:
    environ = config(text)
    with pytest.raises(InvalidInput, match=about) as caught:
        read_settings("p", environ=environ)
    assert environ["MODELHUB_CONFIG"] in caught.value.message
    assert caught.value.remedy


def test_a_config_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"no/such\.toml"):
        read_settings("p", environ={"MODELHUB_CONFIG": "no/such.toml"})


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("1000000", 1_000_000),
        ("17B", 17),
        ("50GB", 50_000_000_000),
        ("50 gb", 50_000_000_000),
        ("64K", 64_000),
        ("1.5TiB", 1_649_267_441_664),
        ("0.1MiB", 104_857),
    ],
)
def test_the_limit_of_the_cache_is_a_size_as_people_write_it(
    config: Config, text: str, size_bytes: int
) -> None:
    by_environment = read_settings(environ={"MODELHUB_CACHE_LIMIT": text})
    assert by_environment.cache_limit_bytes == size_bytes
    environ = config(f'[profile.p]\n{CLUSTER}cache_limit = "{text}"')
    assert read_settings("p", environ=environ).cache_limit_bytes == size_bytes
    assert (
        read_settings("p", environ=environ | {"MODELHUB_CACHE_LIMIT": "1"}).cache_limit_bytes == 1
    )


def test_the_cache_has_no_limit_unless_one_is_set(config: Config) -> None:
    assert read_settings(environ={"MODELHUB_CACHE_LIMIT": ""}).cache_limit_bytes is None
    environ = config(f"[profile.p]\n{CLUSTER}")
    assert read_settings("p", environ=environ).cache_limit_bytes is None
    environ = config(f"[profile.p]\n{CLUSTER}cache_limit = 0")
    assert read_settings("p", environ=environ).cache_limit_bytes == 0


@pytest.mark.parametrize("text", ["much", "-1", "1e9", "5XB", "5 G B", "GB", "1.GB", "１GB", "5iB"])
def test_a_limit_that_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_settings(environ={"MODELHUB_CACHE_LIMIT": text})
    assert ascii(text) in refused.value.message
    assert "50GB" in refused.value.remedy


def test_offline_is_asked_for_by_the_environment_and_overridden_by_an_argument() -> None:
    for text, offline in {"1": True, "true": True, "ON": True, "0": False, "no": False}.items():
        environ = {"MODELHUB_OFFLINE": text}
        assert read_settings(environ=environ).offline is offline
        assert read_settings(environ=environ, offline=not offline).offline is not offline
    assert not read_settings(environ={}).offline
    with pytest.raises(InvalidInput, match="perhaps") as refused:
        read_settings(environ={"MODELHUB_OFFLINE": "perhaps"})
    assert "1 or 0" in refused.value.remedy


@pytest.mark.parametrize(
    ("store", "url"),
    [
        ("weights", "ftp://host/x"),
        ("weights", "file://other-host/x"),
        ("weights", "weights"),
        ("rows", "hbase://"),
        ("rows", "hbase://host:port"),
        ("rows", "hbase://host:99999"),
        ("rows", "hbase://host/table"),
        ("rows", "mysql://host"),
        ("rows", "sqlite://rows.sqlite"),
        ("search", "search:9200"),
        ("search", "https://"),
        ("search", "https://host:0x"),
        ("search", "http://[half"),
    ],
)
def test_a_url_that_no_backend_opens_is_refused_before_any_io(store: str, url: str) -> None:
    stores = {
        "weights": "hdfs://127.0.0.1:1/x",
        "rows": "hbase://127.0.0.1:1",
        "search": "http://127.0.0.1:1",
    }
    with pytest.raises(InvalidInput) as caught:
        open_stores(msgspec.convert(stores | {store: url}, Profile))
    assert url in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("store", ["weights", "rows", "search"])
def test_a_password_in_a_url_is_refused_and_not_shown(store: str) -> None:
    stores = {"weights": "hdfs://h/x", "rows": "hbase://h", "search": "http://h:1"}
    scheme = stores[store].partition("://")[0]
    with pytest.raises(InvalidInput, match="password") as caught:
        open_stores(msgspec.convert(stores | {store: f"{scheme}://me:hunter2@h:1/x"}, Profile))
    assert "hunter2" not in f"{caught.value.message} {caught.value.remedy}"


def test_an_embedded_hub_may_lie_anywhere(tmp_path: Path) -> None:
    home = tmp_path / "50% of it? #1 情感"
    stores = open_stores(embedded(home))
    stores.rows.create_tables(["t"])
    stores.rows.put("t", b"k", b"v")
    assert (home / "rows.sqlite").exists()
    stores.rows.close()
