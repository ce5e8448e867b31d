"""One HTML file that shows what a lake holds of many runs: `curves` makes datasets small, `page` makes the file."""
