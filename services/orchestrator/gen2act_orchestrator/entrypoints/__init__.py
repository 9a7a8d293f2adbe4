"""Thin edges: convert, call the service layer, convert back."""
