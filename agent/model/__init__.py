"""Tables of the inventory and of the records (SQLModel), one file per group of nouns."""
