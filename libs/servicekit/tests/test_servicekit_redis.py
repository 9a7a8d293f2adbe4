import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import exceptions

from gen2act_contracts.errors import StoreUnavailable
from gen2act_servicekit import redis, redis_server
from gen2act_servicekit.settings import ConfigurationError
from gen2act_servicekit.testing import LocalRedis, eventually, free_port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalRedis]:
    with LocalRedis(tmp_path) as running:
        yield running


async def test_values_go_in_and_out_as_bytes(server: LocalRedis) -> None:
    async with redis.connect(server.url) as client:
        with redis.guard():
            await client.set("k", bytes(range(256)))
            assert await client.get("k") == bytes(range(256))


async def test_a_store_that_is_down_is_store_unavailable_and_comes_back(
    server: LocalRedis,
) -> None:
    async with redis.connect(server.url) as client:
        await client.set("k", "v")
        server.kill()

        with (
            pytest.raises(StoreUnavailable, match="Redis cannot be reached") as failure,
            redis.guard(),
        ):
            await client.get("k")
        assert failure.value.retryable

        server.start()
        with redis.guard():
            assert await client.get("k") in {b"v", None}  # the last second may be lost


async def test_a_store_that_was_never_there_is_store_unavailable() -> None:
    async with redis.connect(f"redis://127.0.0.1:{free_port()}/0") as client:
        with pytest.raises(StoreUnavailable), redis.guard():
            await client.ping()


async def test_a_dropped_connection_is_not_noticed(server: LocalRedis) -> None:
    async with redis.connect(server.url) as client, redis.connect(server.url) as other:
        await client.set("k", "v")
        own = await client.client_id()
        await other.client_kill_filter(_id=str(own))

        assert await client.get("k") == b"v"


async def test_a_store_that_takes_no_writes_is_store_unavailable(server: LocalRedis) -> None:
    async with redis.connect(server.url) as client:
        await client.config_set("maxmemory", "1")
        await client.config_set("maxmemory-policy", "noeviction")

        with pytest.raises(StoreUnavailable, match="takes no writes"), redis.guard():
            await client.set("k", "v")


async def test_a_defect_in_a_command_is_not_hidden(server: LocalRedis) -> None:
    async with redis.connect(server.url) as client:
        await client.set("k", "v")

        with pytest.raises(exceptions.ResponseError, match="WRONGTYPE"), redis.guard():
            await client.lpush("k", "x")


def test_a_url_that_cannot_be_read_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigurationError) as failure:
        redis.connect("http://user:secret@db")

    assert "secret" not in str(failure.value)


async def test_the_server_process_is_the_server_and_keeps_what_was_written(tmp_path: Path) -> None:
    port = free_port()
    line = [sys.executable, "-m", "gen2act_servicekit.redis_server"]
    line += ["--dir", str(tmp_path / "new" / "folder"), "--port", str(port)]

    async def answers() -> bool:
        async with redis.connect(f"redis://127.0.0.1:{port}/0") as client:
            try:
                with redis.guard():
                    return bool(await client.ping())
            except StoreUnavailable:
                return False

    for expected in (None, b"v"):
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        try:
            await eventually(answers, deadline_s=20, what="redis_server answers")
            async with redis.connect(f"redis://127.0.0.1:{port}/0") as client:
                assert await client.get("k") == expected
                await client.set("k", "v")
                assert (await client.info("server"))["process_id"] == process.pid
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_without_any_server_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(redis_server, "_EMBEDDED", "no_such_package")

    assert redis_server.main(["--dir", str(tmp_path)]) == 2
    assert "pip install" in capsys.readouterr().err


def test_a_server_on_the_path_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = tmp_path / "redis-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    assert redis_server.find_server() == own
