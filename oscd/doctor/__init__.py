"""What is wrong with a node, and what to do about it: the checks of `oscd doctor`. Only `cli/` uses it."""
