"""`hotbench worker`: pulls jobs from a server and does them with its own files. Core dependencies alone."""
