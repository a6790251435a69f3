"""Where on earth pixels lie."""
