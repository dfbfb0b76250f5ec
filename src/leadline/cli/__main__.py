"""``python -m leadline.cli`` is ``leadline``."""

from leadline.cli.main import main

main()
