"""What a test leaves behind fails it, in virtual time too."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.virtual import in_virtual_time

KEPT: list[object] = []


@in_virtual_time
async def leaves_nothing() -> None:
    task = asyncio.create_task(asyncio.sleep(0.5))
    del task  # ends within the time of grace


@in_virtual_time
async def leaves_a_task() -> None:
    KEPT.append(asyncio.create_task(asyncio.sleep(3600), name="forgotten"))


@in_virtual_time
async def leaves_a_socket() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    KEPT.append(listening)


@in_virtual_time
async def leaves_an_error() -> None:
    async def fail() -> None:
        raise ValueError("nobody saw this")

    task = asyncio.create_task(fail())
    await asyncio.wait({task})
    del task


def test_nothing_left() -> None:
    leaves_nothing()


def test_a_task_left() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"left behind.*forgotten"):
        leaves_a_task()


def test_a_socket_left() -> None:
    with pytest.raises(pytest.fail.Exception, match="left behind"):
        leaves_a_socket()
    listening = KEPT.pop()
    assert isinstance(listening, socket.socket)
    listening.close()


def test_an_error_that_nobody_saw() -> None:
    with pytest.raises(pytest.fail.Exception, match="nobody saw this"):
        leaves_an_error()
