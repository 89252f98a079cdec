"""tfcert: know that a Keras network is robust."""
