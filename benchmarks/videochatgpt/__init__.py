"""The five dimensions of the Video-ChatGPT bench."""
