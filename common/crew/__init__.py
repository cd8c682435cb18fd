"""Starts workers on other machines, and prints recipes for what starts them elsewhere."""
