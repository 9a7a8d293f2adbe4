"""What every Gen2Act service start needs, so that a service holds its domain only."""

from gen2act_servicekit.grpc_server import GrpcService
from gen2act_servicekit.settings import ServiceSettings, describe

__all__ = ["GrpcService", "ServiceSettings", "describe"]
