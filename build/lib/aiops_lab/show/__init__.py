"""What people and programs see: the HTTP interface, figures, sliders for the sensitivity."""
