"""The world of the demo: portraits, cameras, generators, archives. It imports nothing of `src`."""
