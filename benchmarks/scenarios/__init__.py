"""What is measured, one scenario a file. `measure(plan)` gives figures; the docstring's first line is its title."""
