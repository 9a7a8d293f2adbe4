"""What the orchestrator does, told with ports. No HTTP, gRPC or Redis in here."""
