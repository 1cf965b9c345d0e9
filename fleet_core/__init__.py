"""What every process of mqtt-fleet shares: the contract, the rules, the registry, the runtime."""
