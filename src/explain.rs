//! The reasoning of an answer, told for people.
