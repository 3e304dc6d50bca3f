"""Other people's techniques for Baywindow."""
