"""The plan of a run: settings, experiments, paths. No script imports it."""
