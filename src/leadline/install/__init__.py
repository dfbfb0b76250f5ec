"""Making environments for engines: recipes are data, pip does the work, a stamp says it is done."""
