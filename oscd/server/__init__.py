"""The process: settings, logging, sockets, supervisor, worker, steward. Knows no endpoint."""
