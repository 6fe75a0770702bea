"""The project's own benchmark; `docs/benchmarks.md` says how to run it and how to read it."""
