"""The ports of the service layer, over Redis, gRPC and HTTP."""
