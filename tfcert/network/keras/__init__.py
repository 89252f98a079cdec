"""The Keras frontend: from models to networks."""
