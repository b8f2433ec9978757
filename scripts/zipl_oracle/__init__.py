"""Real zipl, run with an emulator of s390x programs, and what it makes of random boot partitions."""
