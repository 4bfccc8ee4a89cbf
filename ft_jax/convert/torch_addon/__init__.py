"""What PyTorch users get with every export: one file that stands alone, `FILE`."""

from pathlib import Path

FILE = Path(__file__).with_name("fantasytalking_diffusers.py")
