"""Models: taken out of pinned wheels, gated, described; and pictures of labels to try them on."""
