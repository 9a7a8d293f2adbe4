"""Short names for the generated stubs: `pb.policy.Observation`, `pb.policy_grpc.PolicyStub`."""

from gen2act_contracts.gen.gen2act.v1 import common_pb2 as common
from gen2act_contracts.gen.gen2act.v1 import policy_pb2 as policy
from gen2act_contracts.gen.gen2act.v1 import policy_pb2_grpc as policy_grpc
from gen2act_contracts.gen.gen2act.v1 import robot_pb2 as robot
from gen2act_contracts.gen.gen2act.v1 import robot_pb2_grpc as robot_grpc
from gen2act_contracts.gen.gen2act.v1 import videogen_pb2 as videogen
from gen2act_contracts.gen.gen2act.v1 import videogen_pb2_grpc as videogen_grpc

__all__ = [
    "common",
    "policy",
    "policy_grpc",
    "robot",
    "robot_grpc",
    "videogen",
    "videogen_grpc",
]
