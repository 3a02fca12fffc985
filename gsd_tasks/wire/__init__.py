"""How values, and errors, travel between the API and its clients."""
