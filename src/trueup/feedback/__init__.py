"""Human feedback: tasks and answers, the store, quality, aggregation and the snapshot that training reads."""
