"""For tests: a pytest plugin for applications (:mod:`granite_storage.testing.plugin`), the compliance suite of backends
(:mod:`granite_storage.testing.suite`), and Hypothesis strategies (:mod:`granite_storage.testing.strategies`)."""
