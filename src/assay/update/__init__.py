"""Problems 4 and 5: what two optimizers really do, and which units each depends on."""
