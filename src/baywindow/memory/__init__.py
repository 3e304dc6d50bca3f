"""What outlives a conversation: a store of turns word for word, systems that distil them, and `Memory`, the door to both."""
