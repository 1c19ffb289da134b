"""Plug-ins for gpw, one of each kind."""
