"""The book: its chapters, their studies, what it claims, and the original report."""
