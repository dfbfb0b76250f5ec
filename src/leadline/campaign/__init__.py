"""The stages of a campaign: plan, up, prove, diagnose, down; every failure is a result."""
