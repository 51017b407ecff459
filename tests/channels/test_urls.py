import sys

import pytest

from typed_sse.channels.memory import MemoryEngine
from typed_sse.channels.nats import NatsEngine
from typed_sse.channels.redis import RedisEngine
from typed_sse.channels.sqlite import SqliteEngine
from typed_sse.channels.urls import engine_of
from typed_sse.errors import InvalidField


@pytest.mark.parametrize(
    ("url", "engine"),
    [
        ("memory://", MemoryEngine),
        ("memory://?timeout_s=3", MemoryEngine),
        ("sqlite:///some/file.db", SqliteEngine),
        ("sqlite:////tmp/file.db?synchronous=full&timeout_s=1", SqliteEngine),
        ("redis://127.0.0.1", RedisEngine),
        ("redis://user:secret@127.0.0.1:6380/3?namespace=x&timeout_s=1.5", RedisEngine),
        ("rediss://127.0.0.1", RedisEngine),
        ("valkey://127.0.0.1", RedisEngine),
        ("unix:///tmp/redis.sock", RedisEngine),
        ("nats://127.0.0.1", NatsEngine),
        ("tls://127.0.0.1:4222?stream=s&replicas=3", NatsEngine),
    ],
)
def test_a_url_stands_for_an_engine(url: str, engine: type) -> None:
    assert type(engine_of(url)) is engine


@pytest.mark.parametrize(
    ("url", "field"),
    [
        ("", "url"),
        ("room", "url"),
        ("http://127.0.0.1", "url"),
        ("postgres://127.0.0.1", "url"),
        ("sqlite://", "url"),
        ("sqlite:///", "url"),
        ("sqlite://host/file", "url"),
        ("sqlite:///file?synchronous=off", "synchronous"),
        ("sqlite:///file?mode=ro", "mode"),
        ("memory://?x=1", "x"),
        ("nats://host:port", "url"),
        ("nats://[host", "url"),
        ("nats://host?replicas=0", "replicas"),
        ("nats://host?replicas=6", "replicas"),
        ("nats://host?replicas=x", "replicas"),
        ("nats://host?namespace=x", "namespace"),
        ("redis://host?timeout_s=0", "timeout_s"),
        ("redis://host?timeout_s=nan", "timeout_s"),
        ("redis://host?timeout_s=x", "timeout_s"),
        ("redis://host?timeout_s=3601", "timeout_s"),
    ],
)
def test_a_url_that_stands_for_none_is_refused_by_the_name_of_what_is_wrong(
    url: str, field: str
) -> None:
    with pytest.raises(InvalidField) as error:
        engine_of(url)
    assert error.value.field == field


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:s3cret@127.0.0.1?timeout_s=0",
        "redis://user:s3cret@127.0.0.1:bad?timeout_s=1",
        "nats://user:s3cret@127.0.0.1?x=1",
        "sqlite://user:s3cret@127.0.0.1/file",
        "htt://user:s3cret@127.0.0.1",
        "nats://user:s3cret@127.0.0.1?replicas=9",
        "redis://127.0.0.1?password=s3cret&timeout_s=0",
        "nats://127.0.0.1?password=s3cret",
        "memory://?token=s3cret",
        "redis://user:a[s3cret]b@127.0.0.1",
        "redis://user:s3cret\u2100@127.0.0.1",
    ],
)
def test_no_error_repeats_a_password(url: str) -> None:
    with pytest.raises(Exception) as error:  # noqa: PT011
        engine_of(url)
    assert "s3cret" not in str(error.value)
    assert "s3cret" not in repr(error.value)


@pytest.mark.parametrize(
    "password", ["a/s3cret", "12/s3cret", "a@s3cret", "12@a/s3cret", "s3cret,a"]
)
@pytest.mark.parametrize("scheme", ["redis", "nats"])
async def test_a_password_that_is_not_encoded_is_not_shown(scheme: str, password: str) -> None:
    try:
        health = await engine_of(f"{scheme}://user:{password}@127.0.0.1").health()
        told = health.detail
    except InvalidField as error:
        told = str(error)
    assert f"{scheme}://" in told
    assert "s3cret" not in told
    assert "user:" not in told.replace("user[:password]", "")


def test_what_an_option_of_redis_has_encoded_comes_to_its_client_so() -> None:
    engine = engine_of("unix:///a.sock?namespace=x&password=a%26b%23&db=3&timeout_s=2")
    assert isinstance(engine, RedisEngine)
    server = engine._server
    assert server.database == b"3"
    assert server._pool.connection_kwargs["password"] == "a&b#"


@pytest.mark.parametrize("extra", ["redis", "nats"])
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, f"typed_sse.channels.{extra}", None)
    with pytest.raises(ImportError, match=rf"typed-sse\[{extra}\]"):
        engine_of(f"{extra}://127.0.0.1")
