"""Operations, told as stories: one a file, named by its noun."""
