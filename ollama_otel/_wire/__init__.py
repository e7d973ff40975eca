"""What an Ollama server and its clients say to each other; standard library only."""
