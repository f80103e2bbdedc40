"""Packages: applied for a client, put in its order, removed, and carried from one workspace to another."""
