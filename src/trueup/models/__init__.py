"""Open models: policies, frozen references, value heads and reward models."""
