"""The pipeline: each stage turns its configuration and upstream artifact into an artifact."""
