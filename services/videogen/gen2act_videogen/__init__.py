"""Human videos from a scene image and a sentence: gRPC service `gen2act.v1.VideoGeneration`."""
