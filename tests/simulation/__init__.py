"""A cluster in virtual time: the real owners, keepers, holders and gates, hundreds of executors, and every
fault that a network and a kernel can do to them. Everything is drawn from one seed, so a failure is run again
by it."""
