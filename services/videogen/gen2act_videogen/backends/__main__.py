"""`python -m gen2act_videogen.backends`: what a running service can make videos with."""

from __future__ import annotations

import argparse

import grpc

from gen2act_contracts import pb
from gen2act_contracts.rpc import from_rpc_error
from gen2act_servicekit import runner
from gen2act_servicekit.grpc_client import channel

TIMEOUT_S = 5.0


async def listing(address: str) -> str:
    """One line per backend: its name, whether it can work now, what it needs; the default first.

    Raises:
        Gen2ActError: the service does not answer.
    """
    async with channel(address) as connection:
        stub = pb.videogen_grpc.VideoGenerationStub(connection)
        try:
            reply = await stub.ListBackends(pb.videogen.ListBackendsRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
    return "\n".join(
        f"{each.name:<14} {'available' if each.available else '-':<10} needs {each.requires}"
        for each in sorted(reply.backends, key=lambda each: not each.is_default)
    )


async def show() -> None:
    """Reads the command line and prints."""
    parser = argparse.ArgumentParser(prog="gen2act_videogen.backends", description=__doc__)
    parser.add_argument("--address", default="localhost:50051", help="of the video service")
    print(await listing(parser.parse_args().address))


if __name__ == "__main__":
    runner.main(show)
