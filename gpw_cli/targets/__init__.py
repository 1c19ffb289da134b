"""NPUs: what one is to the rest of gpw, and one package for each."""
