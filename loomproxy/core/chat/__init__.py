"""The AI side: which provider answers which model, and what a chat is on the way there and back."""
