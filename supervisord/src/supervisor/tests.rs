//! Tests of names, order and shutdown of all processes together.
