"""Agents: episodes and their store, token-exact transcripts, policies, and the collector that brings them together."""
