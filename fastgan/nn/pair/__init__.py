"""What a user's G and D take and return, found out by trying, and how the step calls them."""
