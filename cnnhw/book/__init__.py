"""The book: its chapters, their studies, what it asks, and the original report."""
