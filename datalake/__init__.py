"""A store of immutable, labelled datasets on a file system. It knows no physics."""
