"""Networks of ``keras.applications``: what loading and bounding them takes."""
