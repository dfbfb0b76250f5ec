"""Leadline: how deep does the context of this LLM deployment really go?"""

__version__ = "0.1.0"
