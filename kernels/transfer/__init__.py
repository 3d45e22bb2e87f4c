"""Moving tensors: many gathered into one arena and back, packed for swap."""
