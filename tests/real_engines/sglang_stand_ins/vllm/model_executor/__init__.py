"""Holds ``layers``, under the name that SGLang imports."""
