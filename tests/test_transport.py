from .colours import COLOURS
def test_x(): assert COLOURS
