"""`python -m personaplex_bridge` is the console command."""

from personaplex_bridge.cli import main

raise SystemExit(main())
