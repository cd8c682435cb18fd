"""Other ways to the same end, one a file. Each gives the seconds or the rate of its own best use."""
