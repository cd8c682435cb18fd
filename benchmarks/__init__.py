"""Measurements. Each scenario prints ratios against peers or a bound measured in the same run: `make bench`."""
