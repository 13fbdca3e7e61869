"""Who looks? The HTTP interface, figures, the sensitivity sliders."""
