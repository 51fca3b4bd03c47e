"""Verification: is every file there, is it whole, and what is nobody's?"""
