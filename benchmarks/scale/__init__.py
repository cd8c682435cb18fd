"""What a crew of thousands costs the sink."""
