"""Tables, figures and the HTML page of a sweep, from its results folder alone."""
