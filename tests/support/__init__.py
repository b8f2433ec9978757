"""What several test modules share: running the program, making disks and releases, damaging stores."""
