"""Measurements. Each program prints ratios against a peer or a bound measured in the same run."""
