"""What the three roles share. `docs/ARCHITECTURE.md` maps the floors; a file imports from lower floors only."""

__version__ = "0.1.0"
