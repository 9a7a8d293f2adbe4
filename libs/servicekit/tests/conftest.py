"""A served `EchoPolicy` and clients of it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

# importlib mode puts no test folder on the path; the tests here share one helper module.
sys.path.insert(0, str(Path(__file__).parent))

from echo_policy import EchoPolicy

from gen2act_contracts import pb
from gen2act_servicekit import GrpcService, grpc_client


@pytest.fixture
def servicer() -> EchoPolicy:
    return EchoPolicy()


@pytest.fixture
async def service(servicer: EchoPolicy) -> AsyncIterator[GrpcService]:
    made = GrpcService("policy", metrics_port=0, max_message_mb=1, drain_s=30)
    made.add(
        pb.policy_grpc.add_PolicyServicer_to_server,
        servicer,
        pb.policy.DESCRIPTOR.services_by_name["Policy"],
    )
    await made.start()
    yield made
    servicer.release.set()
    await made.stop()


@pytest.fixture
async def channel(service: GrpcService) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc_client.channel(service.address, max_message_mb=4) as made:
        yield made


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> pb.policy_grpc.PolicyStub:
    return pb.policy_grpc.PolicyStub(channel)
