"""A shop where one can sign up and order."""
