"""``python -m trueup.course`` prints the demo."""

from trueup.course import demo

if __name__ == "__main__":
    demo()
