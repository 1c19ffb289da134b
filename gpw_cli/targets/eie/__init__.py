"""EIE (Han et al., ISCA 2016): a sparse matrix times a sparse vector, one weight at a time."""
