"""Commands, scripts and manifests held against what their engine takes."""
