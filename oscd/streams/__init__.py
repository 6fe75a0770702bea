"""What a subscriber gets: frames of the feed as server-sent events, and who subscribes."""
