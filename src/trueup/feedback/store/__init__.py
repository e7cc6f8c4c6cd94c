"""The feedback database: tables, the audit chain, accounts, projects, and one writer for each table."""
