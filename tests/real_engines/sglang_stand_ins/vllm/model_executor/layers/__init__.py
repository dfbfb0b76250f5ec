"""Holds ``activation`` and ``layernorm``, under the names that SGLang imports."""
