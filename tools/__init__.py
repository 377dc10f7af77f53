"""Commands for maintainers: run the notebooks, check them."""
