"""The runtime's core: contracts, the loop, the bridge, safety and the command line."""
