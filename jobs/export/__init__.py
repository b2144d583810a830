"""Adapters as other tools load them."""
