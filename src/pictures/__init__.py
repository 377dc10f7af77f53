"""How a file becomes pixels: decoding, steps, the store, batches, the spectrum."""
