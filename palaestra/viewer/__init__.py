"""The local web page that shows runs, episodes and forests. It only reads."""
