"""The viewer: images, annotations and targets on a page in the browser."""
