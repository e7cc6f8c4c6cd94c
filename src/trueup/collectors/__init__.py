"""Whatever produces judgments: simulated annotators, and the choice of what is worth asking."""
