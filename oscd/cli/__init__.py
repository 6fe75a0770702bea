"""What a person types. See `oscd --help`."""
