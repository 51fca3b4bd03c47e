"""For tests: the compliance suite of backends (:mod:`granite_storage.testing.suite`), and Hypothesis strategies
(:mod:`granite_storage.testing.strategies`)."""
