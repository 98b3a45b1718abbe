"""Everything that the features need comes from one plugin of the harness."""

pytest_plugins = ("ipai_harness.steps.plugin",)
