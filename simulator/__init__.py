"""Draws the demo's data: portraits, cameras, generators, archives. Imports nothing of `src`."""
