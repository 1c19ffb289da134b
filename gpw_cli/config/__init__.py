"""The typed schema, composing it, and the sweep grammar."""
