"""Every file that starts a deployment, written from its plan."""
