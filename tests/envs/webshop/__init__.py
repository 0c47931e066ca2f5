"""Tests of WebShop."""
