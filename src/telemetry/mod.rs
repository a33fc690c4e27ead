//! Counters of workers, summed at scrape, and state for people.
