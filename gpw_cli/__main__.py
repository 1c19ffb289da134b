"""``python -m gpw_cli``: the same as ``gpw``."""

from gpw_cli.cli.entry import main

if __name__ == "__main__":
    main()
